"""Taking events out of the log so that what is left can still be verified.

Nothing is kept of what an event said. A commit of which a part is left keeps its seal and gets a
sum over that part; one of which nothing is left keeps its seal only where the next commit, which
is keyed by it, begins right after the removed range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import apsw

from node.engine import chain
from node.engine.chain import Link
from node.engine.errors import LogDamaged
from node.engine.removed import Range, merged, ranges_of
from node.engine.schema import fetch_all
from node.engine.seals import End

_LINK: Final = (
    "SELECT e.sequence, x.key, e.kind, n.name, e.occurrence, e.payload FROM litefleet_event e"
    " JOIN litefleet_execution x ON x.id = e.execution JOIN litefleet_name n ON n.id = e.name"
    " WHERE e.sequence "
)


class Cut:
    """Takes events out, in the transaction that is open. Raises LogDamaged when what it meets does
    not hold together."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    def take(
        self, sequences: Iterable[int], blobs: Iterable[bytes], then: Callable[[], None]
    ) -> list[Range]:
        """Take these events out, and of the `blobs` that they had those that no other has; the
        ranges that it was. `then` is called when the events are gone."""
        db = self._db
        gone = sorted(sequences)
        ranges = ranges_of(gone)
        commits = self._commits(gone)
        db.executemany("DELETE FROM litefleet_event WHERE sequence BETWEEN ? AND ?", ranges)
        then()
        db.executemany(
            "DELETE FROM litefleet_blob WHERE digest = ?1 AND NOT EXISTS (SELECT 1 FROM"
            " litefleet_event WHERE typeof(payload) = 'blob' AND payload = ?1)",
            [(digest,) for digest in blobs],
        )
        holes = self._merge(ranges)
        self._seal(commits, {hole.last for hole in holes})
        db.executemany(
            "DELETE FROM litefleet_commit WHERE sequence >= ? AND sequence < ?"
            " AND NOT EXISTS (SELECT 1 FROM litefleet_rest r"
            " WHERE r.sequence = litefleet_commit.sequence)",
            holes,
        )
        return ranges

    def _commits(self, gone: list[int]) -> list[tuple[End, int | None]]:
        """The commits that these events are in, with the sum over what will be left of each, None
        where that is nothing."""
        found: list[tuple[End, int | None]] = []
        at = 0
        while at < len(gone):
            end = self._end(gone[at])
            here = at
            while at < len(gone) and gone[at] <= end.sequence:
                at += 1
            found.append((end, self._rest(end, gone[here:at])))
        return found

    def _rest(self, end: End, gone: list[int]) -> int | None:
        empty = chain.rest(end.chain, end.at)
        known = fetch_all(
            self._db, "SELECT sum FROM litefleet_rest WHERE sequence = ?", (end.sequence,)
        )
        if known:
            total = int.from_bytes(known[0][0])
            for one in ranges_of(gone):
                total -= sum(map(chain.term, self._links(*one)))
            return None if chain.packed(total) == chain.packed(empty) else total
        before = self._previous(end)
        links = self._links(before.sequence + 1, end.sequence)
        if len(links) != end.sequence - before.sequence or (
            chain.value(len(end.chain), before.chain, end.at, links) != end.chain
        ):
            # What is changed must not be made to look as if it were not.
            raise LogDamaged(f"the commit that ends at {end.sequence} does not match its hash")
        goes = set(gone)
        kept = [chain.term(link) for link in links if link[0] not in goes]
        return empty + sum(kept) if kept else None

    def _links(self, first: int, last: int) -> list[Link]:
        return fetch_all(self._db, f"{_LINK} BETWEEN ? AND ? ORDER BY 1", (first, last))

    def _end(self, sequence: int) -> End:
        """The seal of the commit that has this event; see seals.py."""
        db = self._db
        own = fetch_all(
            db,
            "SELECT sequence, at, chain FROM litefleet_event WHERE sequence IN (?1, ?1 + 1)"
            " AND at IS NOT NULL ORDER BY 1",
            (sequence,),
        )
        if own and own[0][0] == sequence:
            return End(*own[0])
        row = fetch_all(
            db,
            "SELECT sequence, at, chain FROM litefleet_commit WHERE sequence >= ?"
            " ORDER BY 1 LIMIT 1",
            (sequence,),
        )
        if own and not (row and row[0][0] == sequence):
            return End(*own[0])
        if not row:
            raise LogDamaged(f"event {sequence} is in no commit")
        return End(*row[0])

    def _previous(self, end: End) -> End:
        """The seal before that of a commit of which nothing was removed yet."""
        row = fetch_all(
            self._db,
            "SELECT sequence, at, chain FROM litefleet_commit WHERE sequence < ?"
            " ORDER BY 1 DESC LIMIT 1",
            (end.sequence,),
        )
        own = fetch_all(
            self._db,
            "SELECT sequence, at, chain FROM litefleet_event WHERE sequence > ? AND sequence < ?"
            " AND at IS NOT NULL ORDER BY 1 DESC LIMIT 1",
            (row[0][0] if row else 0, end.sequence),
        )
        if not (own or row):
            raise LogDamaged(f"there is no commit before the one that ends at {end.sequence}")
        return End(*(own or row)[0])

    def _merge(self, ranges: list[Range]) -> list[Range]:
        """Put the ranges into the table, merged with those they touch; what they became."""
        db = self._db
        near: set[Range] = set()
        for first, last in ranges:
            near.update(
                Range(*row)
                for row in fetch_all(
                    db,
                    "SELECT * FROM (SELECT first, last FROM litefleet_removed WHERE first < ?1"
                    " ORDER BY first DESC LIMIT 1) WHERE last >= ?1 - 1"
                    " UNION ALL SELECT first, last FROM litefleet_removed WHERE first = ?2 + 1",
                    (first, last),
                )
            )
        holes = merged([*ranges, *near])
        db.executemany(
            "DELETE FROM litefleet_removed WHERE first = ?", [(one.first,) for one in near]
        )
        db.executemany("INSERT INTO litefleet_removed VALUES (?, ?)", holes)
        return holes

    def _seal(self, commits: list[tuple[End, int | None]], ends: set[int]) -> None:
        db = self._db
        for end, rest in commits:
            if rest is None:
                db.execute("DELETE FROM litefleet_rest WHERE sequence = ?", (end.sequence,))
                if end.sequence not in ends:
                    db.execute("DELETE FROM litefleet_commit WHERE sequence = ?", (end.sequence,))
                    continue
            else:
                db.execute(
                    "INSERT OR REPLACE INTO litefleet_rest VALUES (?, ?)",
                    (end.sequence, chain.packed(rest)),
                )
            if not fetch_all(
                db, "SELECT 1 FROM litefleet_event WHERE sequence = ?", (end.sequence,)
            ):
                # Its seal may have gone with its last event.
                db.execute("INSERT OR IGNORE INTO litefleet_commit VALUES (?, ?, ?)", end)
