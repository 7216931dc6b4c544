"""Taking events out of the log, in the writer's transaction, so that what is left can be verified.

Nothing is kept of what an event said. A commit of which a part is left keeps its seal and gets a
sum over that part; one of which nothing is left keeps its seal only where the next commit, which
is keyed by it, begins right after the removed range.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import apsw

from node.engine import chain
from node.engine.beginning import Beginning, compact
from node.engine.blobs import Kept, body, body_of
from node.engine.chain import Link
from node.engine.errors import LogDamaged
from node.engine.events import BEGINNINGS, INTENTS, RESERVED, Event, Kind
from node.engine.removed import SIZE, Fingerprint, Range, merged, numbered, ranges_of
from node.engine.retention import RECORD
from node.engine.seals import End
from node.engine.writer import Entry

#: The status of an execution of which a part is removed already. It is closed for everybody, and
#: its `closed` is the newest event that is left.
GOING: Final = 5
#: Days for which the counts of a removed execution's steps are remembered.
REMEMBERED: Final = 30
_DAY: Final = 24 * 3600 * 1000
_BEGINNINGS: Final = ", ".join(str(kind.value) for kind in sorted(BEGINNINGS))
_CHUNKS: Final = f"{Kind.CHUNK.value}, {Kind.STEP_CHUNK.value}"
_COUNTED: Final = {int(kind) for kind in INTENTS}
_BEGIN: Final = {int(kind) for kind in BEGINNINGS}
# From the newest event back, down to but without one.
_PAST: Final = (
    "WITH RECURSIVE past(sequence, back, kind, name, occurrence, payload) AS ("
    "SELECT sequence, back, kind, name, occurrence, payload FROM litefleet_event"
    " WHERE sequence = ?1 UNION ALL"
    " SELECT e.sequence, e.back, e.kind, e.name, e.occurrence, e.payload FROM past"
    " CROSS JOIN litefleet_event e ON e.sequence = past.sequence - past.back"
    " WHERE past.back > 0 AND past.sequence - past.back > ?2)"
)
_WALK: Final = (
    f"{_PAST} SELECT sequence, back, kind, name, occurrence, CASE WHEN kind IN ({_BEGINNINGS})"
    " OR typeof(payload) = 'blob' THEN payload END FROM past LIMIT ?3"
)
_LENGTHS: Final = (
    f"{_PAST} SELECT stream, sum(length) FROM (SELECT"
    f" CASE kind WHEN {Kind.CHUNK.value} THEN (SELECT n.name FROM litefleet_name n WHERE n.id ="
    " past.name) ELSE json_extract(said, '$.s') END AS stream,"
    " json_array_length(said, '$.v') AS length FROM (SELECT past.*,"
    f" {body_of('past.payload')} AS said FROM past WHERE kind IN ({_CHUNKS})) AS past)"
    " GROUP BY stream"
)
_LINK: Final = (
    "SELECT e.sequence, x.key, e.kind, n.name, e.occurrence, e.payload FROM litefleet_event e"
    " JOIN litefleet_execution x ON x.id = e.execution JOIN litefleet_name n ON n.id = e.name"
    " WHERE e.sequence "
)


@dataclass(frozen=True, slots=True)
class Record:
    """What was removed from a log so far: the input of the one execution that says so."""

    executions: int = 0
    histories: int = 0
    events: int = 0
    sum: str = "0" * (2 * SIZE)
    """The fingerprint of the removed sequences, in hex."""
    held: str = "0" * (2 * SIZE)
    """That of the row numbers of the executions that are held."""
    going: tuple[int, ...] = ()
    """Row numbers of executions of which a part is removed."""

    @staticmethod
    def read(payload: Kept) -> Record:
        """Raises ValueError, KeyError, TypeError."""
        body = json.loads(str(payload))["record"]
        return Record(**{**body, "going": tuple(body["going"])})

    def payload(self) -> str:
        """The input that it is."""
        return compact({"record": asdict(self)})

    def entries(self, rowid: int) -> list[Entry]:
        """The execution that says it, and does nothing else."""
        return [
            Entry(rowid, RECORD, Kind.STARTED, RECORD, 1, self.payload()),
            Entry(rowid, RECORD, Kind.COMPLETED, RECORD, 1, None),
        ]


def record_of(db: apsw.Connection) -> Record:
    """The newest record of this log."""
    found = _all(
        db,
        "SELECT e.payload FROM litefleet_execution x JOIN litefleet_event e"
        " ON e.sequence = x.started WHERE x.key = ?",
        (RECORD,),
    )
    return Record.read(found[0][0]) if found else Record()


@dataclass(slots=True)
class Limits:
    """The most that one transaction removes. It stops at the first of them that is reached."""

    events: int = 2000
    seconds: float = 0.01


@dataclass(slots=True)
class Removal:
    """What one transaction is to remove, and then what it did. `after` is called on the loop once
    it is committed, or with an `error` if nothing was changed.

    `executions` are row numbers of closed ones, with the sequence up to which they may have ended;
    `histories` row numbers with the sequence of the event that begins the history after those that
    go. `hold` and `release` are of executions.
    `record` is the row number of the execution that will say what was done.
    """

    record: int
    secret: bytes
    genesis: bytes
    """The chain's value in the log's beginning."""
    after: Callable[[Removal], None]
    executions: list[tuple[int, int]] = field(default_factory=list)
    histories: list[tuple[int, int]] = field(default_factory=list)
    hold: tuple[int, str] | None = None
    release: int | None = None
    sweep: tuple[int, int] | None = None
    """Forget the removed ids in this range whose time has come, and do nothing else."""
    limits: Limits = field(default_factory=Limits)
    gone: set[int] = field(default_factory=set)
    """The executions of which nothing is left."""
    hidden: list[tuple[str, int]] = field(default_factory=list)
    """Workflow and status of each execution that is there no more for anybody."""
    undone: list[tuple[int, int]] = field(default_factory=list)
    """What of `executions` and `histories` it did not come to the end of."""
    trimmed: int = 0
    events: int = 0
    """Of these; those of the record before are not counted."""
    seconds: float = 0.0
    """How long it held the write lock, its COMMIT not counted."""
    written: Record | None = None
    error: Exception | None = None

    def perform(self, db: apsw.Connection, at: int, timer: Callable[[], float]) -> list[Entry]:
        """Do it, in the transaction that is open at `at` (unix ms); the events that say so.

        Raises LogDamaged when what it meets does not hold together.
        """
        if self.sweep is not None:
            db.execute(
                "DELETE FROM litefleet_gone WHERE id BETWEEN ? AND ? AND until < ?",
                (*self.sweep, at // _DAY),
            )
            return []
        begun = timer()
        self.gone, self.hidden, self.undone, self.trimmed = set(), [], [], 0
        knife = _Knife(db, at, self.secret)
        record = record_of(db)
        going = set(record.going)
        knife.forget_record()
        mine = len(knife.gone)

        def room() -> int:
            # Whatever the limits, something is done, or it would never come to an end.
            full = len(knife.gone) > mine and timer() - begun >= self.limits.seconds
            return 0 if full else self.limits.events + mine - len(knife.gone)

        for execution, closed in self.executions:
            most = room()
            known = knife.execution(execution, closed, most) if most > 0 else None
            if most <= 0 or knife.part:
                self.undone.append((execution, closed))
            if known is None:
                continue
            if knife.part:
                going.add(execution)
            else:
                self.gone.add(execution)
                going.discard(execution)
            if known[1] < GOING:
                self.hidden.append(known)
        for execution, beginning in self.histories:
            most = room()
            self.trimmed += most > 0 and knife.history(execution, beginning, most)
            if most <= 0 or knife.part:
                self.undone.append((execution, beginning))
        prints = Fingerprint(self.genesis)
        held = self._held(db, at, prints, int(record.held, 16))
        ranges = knife.cut()
        removed = sum(one.size for one in ranges)
        self.events = removed - mine
        self.written = Record(
            record.executions + len(self.gone),
            record.histories + self.trimmed,
            record.events + removed,
            _hex(prints.add(int(record.sum, 16), ranges)),
            _hex(held),
            tuple(sorted(going)),
        )
        self.seconds = timer() - begun
        return self.written.entries(self.record)

    def finished(self) -> None:
        """It is committed, or has its `error`."""
        self.after(self)

    def _held(self, db: apsw.Connection, at: int, prints: Fingerprint, before: int) -> int:
        if self.hold is not None:
            rowid, reason = self.hold
            db.execute(
                "INSERT INTO litefleet_hold VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (rowid, at, reason),
            )
            if db.changes():
                before = prints.add(before, [Range(rowid, rowid)])
        if self.release is not None:
            rowid = self.release
            db.execute("DELETE FROM litefleet_hold WHERE execution = ?", (rowid,))
            if db.changes():
                before = prints.take(before, [Range(rowid, rowid)])
        return before


class _Knife:
    """Collects what goes, then takes it out."""

    def __init__(self, db: apsw.Connection, at: int, secret: bytes) -> None:
        self._db = db
        self._until = at // _DAY + REMEMBERED
        self._secret = secret
        self.gone: list[int] = []
        """The sequences that go."""
        self.part = False
        """Only a part of what was named last was collected."""
        self._blobs: set[bytes] = set()
        self._finally: list[tuple[str, tuple[Any, ...]]] = []

    # Collecting -------------------------------------------------------------------------------

    def forget_record(self) -> None:
        """The record so far: another one takes its place."""
        found = _all(
            self._db, "SELECT id, closed FROM litefleet_execution WHERE key = ?", (RECORD,)
        )
        for rowid, closed in found:
            self._walk(closed, 0, -1)
            self._drop(rowid)

    def execution(self, rowid: int, until: int, most: int) -> tuple[str, int] | None:
        """An execution that was closed by the event `until`, or as much of it as `most` events,
        the newest first; its workflow and status, None if it is not to be removed."""
        self.part = False
        found = _all(
            self._db,
            "SELECT x.key, n.name, x.status, x.closed FROM litefleet_execution x"
            " JOIN litefleet_name n ON n.id = x.workflow WHERE x.id = ? AND x.closed <= ?"
            " AND NOT EXISTS (SELECT 1 FROM litefleet_hold WHERE execution = x.id)",
            (rowid, until),
        )
        if not found:
            return None
        key, workflow, status, closed = found[0]
        rows = self._walk(closed, 0, most)
        if not workflow.startswith(RESERVED):
            self._remember(key, rows)
        before = _before(rows)
        if before:
            self.part = True
            self._finally.append(
                (
                    "UPDATE litefleet_execution SET status = ?, closed = ? WHERE id = ?",
                    (GOING, before, rowid),
                )
            )
            self._forget_offsets(rowid)
        else:
            self._drop(rowid)
        return workflow, status

    def history(self, rowid: int, beginning: int, most: int) -> bool:
        """What an execution has before the event `beginning`, but for how it was started; or as
        much of it as `most` events. Whether that was all."""
        self.part = False
        found = _all(
            self._db,
            "SELECT x.started, e.back, o.sequence FROM litefleet_execution x"
            " JOIN litefleet_event e ON e.sequence = ?2 AND e.execution = x.id"
            " LEFT JOIN litefleet_event o ON o.sequence = x.started + 1 AND o.execution = x.id"
            f" AND o.kind = {Kind.ORIGIN.value} WHERE x.id = ?1 AND x.status < {GOING}"
            " AND NOT EXISTS (SELECT 1 FROM litefleet_hold WHERE execution = x.id)",
            (rowid, beginning),
        )
        if not found:
            return False
        started, back, origin = found[0]
        stop = 0 if started == beginning else origin or started
        if not back or beginning - back <= stop:
            return False
        self._offsets(rowid, beginning, beginning - back)
        rows = self._walk(beginning - back, stop, most)
        before = _before(rows)
        self._finally.append(
            (
                "UPDATE litefleet_event SET back = ? WHERE sequence = ?",
                (beginning - before if before else 0, beginning),
            )
        )
        self.part = before > stop
        self._finally.append(
            (
                "DELETE FROM litefleet_offset WHERE execution = ? AND sequence BETWEEN ? AND ?",
                (rowid, rows[-1][0], beginning - 1),
            )
        )
        return not self.part

    def _walk(self, newest: int, stop: int, most: int) -> list[Any]:
        rows = _all(self._db, _WALK, (newest, stop, most))
        if not rows or (len(rows) != most and _before(rows) > stop):
            raise LogDamaged(f"event {_before(rows) if rows else newest} is missing")
        self.gone += [row[0] for row in rows]
        self._blobs.update(row[5] for row in rows if isinstance(row[5], bytes))
        return rows

    def _drop(self, rowid: int) -> None:
        self._finally.append(("DELETE FROM litefleet_execution WHERE id = ?", (rowid,)))
        self._forget_offsets(rowid)

    def _forget_offsets(self, rowid: int) -> None:
        self._finally.append(("DELETE FROM litefleet_offset WHERE execution = ?", (rowid,)))

    def _remember(self, key: str, rows: Iterable[Any]) -> None:
        """How far the steps of this id were counted: no later one may have their keys."""
        number = numbered(self._secret, key)
        counts: dict[int, int] = {}
        run = 0
        known = _all(self._db, "SELECT run, counts FROM litefleet_gone WHERE id = ?", (number,))
        if known:
            run, counts = known[0][0], read_counts(known[0][1])
        for _, _, kind, name, occurrence, payload in rows:
            if kind in _COUNTED:
                counts[name] = max(counts.get(name, 0), occurrence)
            elif kind in _BEGIN:
                began = Event(0, key, Kind(kind), "", 1, body(self._db, payload), 0, 0)
                beginning = Beginning.of(began)
                run = max(run, beginning.run)
                for word, count in beginning.counts.items():
                    at = self._name(word)
                    counts[at] = max(counts.get(at, 0), count)
                # An older history has counted less.
                break
        self._finally.append(
            (
                "INSERT OR REPLACE INTO litefleet_gone VALUES (?, ?, ?, ?)",
                (number, run, _write_counts(counts), self._until),
            )
        )

    def _name(self, word: str) -> int:
        found = _all(self._db, "SELECT id FROM litefleet_name WHERE name = ?", (word,))
        if not found:
            raise LogDamaged(f"a history counts {word!r}, which no event has")
        return int(found[0][0])

    def _offsets(self, rowid: int, beginning: int, newest: int) -> None:
        """How long the execution's streams are where this history begins."""
        known = _all(
            self._db,
            "SELECT sequence, stream, length FROM litefleet_offset WHERE execution = ?"
            " AND sequence <= ? ORDER BY sequence",
            (rowid, beginning),
        )
        if known and known[-1][0] == beginning:
            return
        nearest = known[-1][0] if known else 0
        lengths = {stream: length for sequence, stream, length in known if sequence == nearest}
        for stream, length in _all(self._db, _LENGTHS, (newest, nearest)):
            lengths[stream] = lengths.get(stream, 0) + length
        self._db.executemany(
            "INSERT INTO litefleet_offset VALUES (?, ?, ?, ?)",
            [(rowid, beginning, stream, length) for stream, length in lengths.items() if length],
        )

    # Cutting ----------------------------------------------------------------------------------

    def cut(self) -> list[Range]:
        """Take out what was collected; the ranges that it was."""
        db = self._db
        gone = sorted(self.gone)
        ranges = ranges_of(gone)
        commits = self._commits(gone)
        db.executemany("DELETE FROM litefleet_event WHERE sequence BETWEEN ? AND ?", ranges)
        for sql, values in self._finally:
            db.execute(sql, values)
        db.executemany(
            "DELETE FROM litefleet_blob WHERE digest = ?1 AND NOT EXISTS (SELECT 1 FROM"
            " litefleet_event WHERE typeof(payload) = 'blob' AND payload = ?1)",
            [(digest,) for digest in self._blobs],
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
        known = _all(self._db, "SELECT sum FROM litefleet_rest WHERE sequence = ?", (end.sequence,))
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
        return _all(self._db, f"{_LINK} BETWEEN ? AND ? ORDER BY 1", (first, last))

    def _end(self, sequence: int) -> End:
        """The seal of the commit that has this event; see seals.py."""
        db = self._db
        own = _all(
            db,
            "SELECT sequence, at, chain FROM litefleet_event WHERE sequence IN (?1, ?1 + 1)"
            " AND at IS NOT NULL ORDER BY 1",
            (sequence,),
        )
        if own and own[0][0] == sequence:
            return End(*own[0])
        row = _all(
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
        row = _all(
            self._db,
            "SELECT sequence, at, chain FROM litefleet_commit WHERE sequence < ?"
            " ORDER BY 1 DESC LIMIT 1",
            (end.sequence,),
        )
        own = _all(
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
                for row in _all(
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
            if not _all(db, "SELECT 1 FROM litefleet_event WHERE sequence = ?", (end.sequence,)):
                # Its seal may have gone with its last event.
                db.execute("INSERT OR IGNORE INTO litefleet_commit VALUES (?, ?, ?)", end)


def gone_before(db: apsw.Connection, secret: bytes, key: str) -> tuple[int, dict[str, int]] | None:
    """Of an id whose execution was removed: the number of its histories, and how far its steps
    were counted."""
    found = _all(
        db, "SELECT run, counts FROM litefleet_gone WHERE id = ?", (numbered(secret, key),)
    )
    if not found:
        return None
    run, counts = found[0]
    names = dict(_all(db, "SELECT id, name FROM litefleet_name"))
    return run, {names[name]: count for name, count in read_counts(counts).items()}


def read_counts(text: str) -> dict[int, int]:
    """The reverse of how litefleet_gone has them: names' numbers and counts in turn."""
    numbers = json.loads(text)
    return dict(zip(numbers[::2], numbers[1::2], strict=True))


def _write_counts(counts: dict[int, int]) -> str:
    return compact([number for pair in counts.items() for number in pair])


def _before(rows: list[Any]) -> int:
    """The event before the last of these, 0 if there is none."""
    sequence, back, *_ = rows[-1]
    return sequence - back if back else 0


def _hex(number: int) -> str:
    return f"{number:0{2 * SIZE}x}"


def _all(db: apsw.Connection, sql: str, values: Any = ()) -> list[Any]:
    return db.execute(sql, values).fetchall()
