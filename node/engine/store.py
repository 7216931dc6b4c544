"""One log file: who may open it, and what can be read from it."""

from __future__ import annotations

import json
import os
from bisect import bisect_left
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any, Final, ParamSpec, TypeVar

import apsw

from node.engine import chain, schema, seals
from node.engine.beginning import Beginning
from node.engine.blobs import body_of
from node.engine.errors import LogDamaged, LogRefused, ReadTooLong
from node.engine.events import BEGINNINGS, GOING, STATUS_CODES, Event, Kind, Payload, Status
from node.engine.gone import gone_before
from node.engine.identities import Identities
from node.engine.labels import labels_of
from node.engine.lock import lock
from node.engine.record import Record, record_of
from node.engine.seals import End
from node.engine.selection import SYSTEM

_KINDS: Final = {kind.value: kind for kind in Kind}
#: Up to this size an opening engine has SQLite check every page; it takes some milliseconds.
QUICK_CHECK_BYTES: Final = 64 * 1024 * 1024
#: Seconds after which what is read for somebody outside is cut off: while a reader is open, the
#: WAL cannot be reused and grows.
PATIENCE: Final = 5.0
#: Steps of SQLite's machine between two looks at the time.
STEPS: Final = 5_000
P = ParamSpec("P")
T = TypeVar("T")

_BEGINNINGS = ", ".join(str(kind.value) for kind in sorted(BEGINNINGS))
# From the newest event back, each row found by its key alone. Names are put in afterwards, and
# nothing is sorted: both cost more here than everything else.
_HISTORY = (
    "WITH RECURSIVE past(sequence, back, kind, name, occurrence, payload, at) AS ("
    "SELECT sequence, back, kind, name, occurrence, payload, at FROM litefleet_event"
    " WHERE sequence = ? UNION ALL"
    " SELECT e.sequence, e.back, e.kind, e.name, e.occurrence, e.payload, e.at FROM past"
    " CROSS JOIN litefleet_event e ON e.sequence = past.sequence - past.back"
    " WHERE past.back > 0 AND past.sequence - past.back > ?"
    f" AND (? OR past.kind NOT IN ({_BEGINNINGS})))"
    f" SELECT past.sequence, past.kind, past.name, past.occurrence, {body_of('past.payload')},"
    " coalesce(past.at, c.at, n.at),"
    " CASE WHEN past.at IS NULL THEN coalesce(c.sequence, n.sequence) ELSE past.sequence END"
    # Where the next event has a seal, this one is the last of a larger commit or the first of
    # that one's.
    " FROM past LEFT JOIN litefleet_event n ON past.at IS NULL AND n.sequence = past.sequence + 1"
    " LEFT JOIN litefleet_commit c ON past.at IS NULL AND c.sequence = CASE WHEN n.at IS NULL"
    " THEN (SELECT sequence FROM litefleet_commit WHERE sequence >= past.sequence"
    " ORDER BY sequence LIMIT 1) ELSE past.sequence END"
)


def _executions(given: str, outcome: str) -> str:
    return (
        f"SELECT x.id, x.key, n.name, x.status, x.started, x.closed, {given}, {outcome},"
        f" {seals.time_of('x.started')}, {seals.time_of('x.closed')},"
        f" json_extract(o.payload, '$.version'), CASE WHEN EXISTS (SELECT 1 FROM litefleet_label"
        f" WHERE execution = x.id) THEN {labels_of('x.id')} END,"
        f" CASE s.kind WHEN {Kind.FORKED.value} THEN"
        f" json_extract({body_of('s.payload')}, '$.from') END"
        " FROM litefleet_execution x JOIN litefleet_name n ON n.id = x.workflow"
        " JOIN litefleet_event s ON s.sequence = x.started"
        " LEFT JOIN litefleet_event e ON e.sequence = x.closed"
        # Where it comes from is in the very next event, if there is anything to say.
        " LEFT JOIN litefleet_event o ON o.sequence = x.started + 1 AND o.execution = x.id"
        f" AND o.kind = {Kind.ORIGIN.value}"
    )


#: Beginnings of a query for executions `x`: with all of them, and, for many, without what they
#: were given and what came of it.
WHOLE: Final = _executions(
    f"CASE s.kind WHEN {Kind.STARTED.value} THEN {body_of('s.payload')}"
    f" ELSE json_extract({body_of('s.payload')}, '$.input') END",
    body_of("e.payload"),
)
SUMMARY: Final = _executions("'null'", "NULL")


@dataclass(frozen=True, slots=True)
class Stored:
    """An execution as the log has it. Sequences are the log's, times unix milliseconds."""

    rowid: int
    id: str
    workflow: str
    status: Status
    started: int
    closed: int | None
    input: Payload
    outcome: Payload
    started_at: int
    closed_at: int | None
    version: str | None
    labels: Mapping[str, str]
    forked_from: str | None = None
    """The JSON of the execution that it was made from, as `forked.ForkedFrom` has it."""


class Store:
    """An open log: the lock on it, and a connection for reading on the engine's thread."""

    def __init__(
        self, path: Path, *, tenant: str, lineage: str, create: bool, now: Callable[[], int]
    ) -> None:
        """Raises LogInUse, LogMissing, LogDamaged, LogRefused."""
        self.path = path
        self._name_of: dict[int, str] = {}
        self.removing: Container[str] = ()
        """The ids of executions that are just being removed: nobody finds them any more."""
        self.patience: float | None = None
        """Seconds after which a statement is cut off; None: never."""
        self._until = inf
        self._lock = lock(path)
        try:
            if create:
                self._create(tenant, lineage, now())
            schema.check_header(path)
            # Not opened read-only, which needs the WAL's index to exist already.
            self.reader = schema.connect(path)
            self.reader.set_progress_handler(self._is_late, STEPS)
            try:
                self._rows("PRAGMA query_only=ON")
                version = schema.version_of(self.reader, path)
                self.tail = self._check(tenant, lineage, version)
                if version < schema.VERSION:
                    schema.migrate(path)
                self._begin_life(now())
                found = self._rows("SELECT value FROM litefleet_meta WHERE key = 'secret'")
                self.secret = bytes.fromhex(found[0][0])
                self.look_for_gaps()
            except (apsw.CorruptError, apsw.NotADBError, apsw.SQLError) as error:
                self.reader.close()
                raise LogDamaged(f"{path} is damaged: {error}") from error
            except BaseException:
                self.reader.close()
                raise
        except BaseException:
            os.close(self._lock)
            raise

    def _create(self, tenant: str, lineage: str, now: int) -> None:
        if self.path.exists() and self.path.stat().st_size:
            raise LogRefused(
                f"{self.path} exists; a new log is not started over an old one",
                hint="Open it without create, or name a path that does not exist.",
            )
        leftovers = [
            name
            for suffix in ("-wal", "-shm", "-journal")
            if (name := self.path.with_name(self.path.name + suffix)).exists()
        ]
        if leftovers:
            raise LogRefused(f"{leftovers[0]} is left over from another database")
        self.path.unlink(missing_ok=True)
        schema.create(
            self.path,
            tenant=tenant,
            lineage=lineage,
            genesis_at=now,
            chain=chain.genesis(tenant, lineage, now),
        )

    def _check(self, tenant: str, lineage: str, version: int) -> End:
        if self.path.stat().st_size <= QUICK_CHECK_BYTES:
            found = self._rows("PRAGMA quick_check(1)")
            if found != [("ok",)]:
                raise LogDamaged(f"{self.path} is damaged: {found[0][0]}")
        meta = dict(self._rows("SELECT key, value FROM litefleet_meta"))
        try:
            self.identities = Identities.of(meta)
        except (ValueError, KeyError, TypeError) as error:
            raise LogDamaged(f"{self.path} does not say whose it is: {error}") from error
        if (meta.get("tenant"), meta.get("lineage")) != (tenant, lineage):
            raise LogRefused(
                f"{self.path} is the log of tenant {meta.get('tenant')!r} in lineage"
                f" {meta.get('lineage')!r}, not of {tenant!r} in {lineage!r}"
            )
        last = seals.newest(self.reader, version)
        newest = self._rows("SELECT max(sequence) FROM litefleet_event")[0][0]
        if not last or last[0].sequence != (newest or 0):
            raise LogDamaged(f"{self.path}: the newest event is not in the newest commit")
        if len(last) == 2:
            links = self._rows(
                "SELECT e.sequence, x.key, e.kind, n.name, e.occurrence, e.payload"
                " FROM litefleet_event e JOIN litefleet_execution x ON x.id = e.execution"
                " JOIN litefleet_name n ON n.id = e.name WHERE e.sequence > ? ORDER BY 1",
                (last[1].sequence,),
            )
            expected = chain.value(len(last[0].chain), last[1].chain, last[0].at, links)
        else:
            expected = chain.genesis(*self.identities.first, meta["genesis_at"])
        if expected != last[0].chain:
            raise LogDamaged(f"{self.path}: the newest commit does not match its hash")
        return last[0]

    def _begin_life(self, now: int) -> None:
        found = self._rows("SELECT sequence FROM litefleet_life WHERE ended = 0 ORDER BY sequence")
        self._crashes: list[int] = [row[0] for row in found]
        db = schema.connect(self.path)
        try:
            db.execute(
                "INSERT INTO litefleet_life VALUES (NULL, ?, ?, 0)", (self.tail.sequence, now)
            )
            self._life = db.last_insert_rowid()
        finally:
            db.close()

    def crashes_since(self, sequence: int) -> int:
        """How many engines opened the log with this event in it and did not close it."""
        return len(self._crashes) - bisect_left(self._crashes, sequence)

    def close(self, *, gracefully: bool = False) -> None:
        """Let the log go; `gracefully` says that nothing was cut short."""
        if gracefully:
            db = schema.connect(self.path)
            # Without the mark this life counts as one that crashed, which is safe.
            with closing(db), suppress(apsw.Error):
                db.execute("UPDATE litefleet_life SET ended = 1 WHERE id = ?", (self._life,))
        self.reader.close()
        os.close(self._lock)

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        # Always to the end: a statement left open holds a read transaction, and the WAL grows.
        return self.cut_off(lambda: self.reader.execute(sql, values).fetchall())

    def cut_off(self, read: Callable[[], T]) -> T:
        """What this reads with the reader, if that does not take too long. Raises ReadTooLong."""
        if self.patience is None:
            return read()
        self._until = monotonic() + self.patience
        try:
            return read()
        except apsw.InterruptError:
            raise ReadTooLong(
                f"reading the log took longer than {self.patience:g} s and was cut off, so that"
                " its replica does not wait for it"
            ) from None
        finally:
            self._until = inf

    def _is_late(self) -> bool:
        return monotonic() > self._until

    def patiently(self, read: Callable[P, T]) -> Callable[P, T]:
        """The same reading for the engine itself, which cannot go on without an answer."""

        def reading(*args: P.args, **kwargs: P.kwargs) -> T:
            patience, self.patience = self.patience, None
            try:
                return read(*args, **kwargs)
            finally:
                self.patience = patience

        return reading

    # Reading ------------------------------------------------------------------------------------

    def find(self, key: str) -> Stored | None:
        if key in self.removing:
            return None
        rows = self._rows(f"{WHOLE} WHERE x.key = ? AND x.status < {GOING}", (key,))
        return stored_of_row(rows[0]) if rows else None

    def open_executions(self) -> list[Stored]:
        rows = self._rows(f"{WHOLE} WHERE x.closed IS NULL ORDER BY x.id")
        return [stored_of_row(row) for row in rows]

    def dequeued(self, *, since: int) -> list[tuple[str, str | None, int]]:
        """The turns that queues gave after `since` (unix ms), in order: queue, partition and
        time.

        It goes through what was logged since then: an index would cost every event something,
        and this an opening engine a second for each ten million.
        """
        return self._rows(
            "SELECT json_extract(e.payload, '$.queue'), json_extract(e.payload, '$.partition'),"
            f" {seals.time_of('e.sequence')} AS moment FROM litefleet_event e"
            f" WHERE e.sequence > ? AND e.kind = {Kind.DEQUEUED.value} AND moment > ?"
            " ORDER BY e.sequence",
            (seals.last_before(self.reader, since, self.tail.sequence), since),
        )

    # What was removed ---------------------------------------------------------------------------

    def look_for_gaps(self) -> None:
        """Find out whether anything was removed that has left a trace. Where nothing was, nobody
        pays for asking."""
        found = self._rows(
            "SELECT EXISTS (SELECT 1 FROM litefleet_gone), EXISTS (SELECT 1 FROM litefleet_offset)"
        )
        self._any_gone, self._any_offset = map(bool, found[0])

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """The rows of a short statement that only reads."""
        return self._rows(sql, values)

    def ids(self, rowids: Iterable[int]) -> list[str]:
        """The ids of those of these executions that are there."""
        found = (
            self._rows("SELECT key FROM litefleet_execution WHERE id = ?", (one,)) for one in rowids
        )
        return [rows[0][0] for rows in found if rows]

    def genesis(self) -> bytes:
        """The chain's value in the log's beginning."""
        return bytes(self._rows("SELECT chain FROM litefleet_commit WHERE sequence = 0")[0][0])

    def record(self) -> Record:
        """What was removed so far."""
        return record_of(self.reader)

    def beginning_after(self, key: str, input: str) -> Beginning | None:
        """How an id begins whose execution was removed: it goes on counting. None for one that
        is new, as far as is remembered."""
        found = gone_before(self.reader, self.secret, key) if self._any_gone else None
        return None if found is None else Beginning(input, found[0] + 1, found[1])

    def lengths(self, rowid: int) -> dict[int, dict[str, int]]:
        """How long an execution's streams were where histories begin before which others were
        removed."""
        found: dict[int, dict[str, int]] = {}
        if self._any_offset:
            for sequence, stream, length in self._rows(
                "SELECT sequence, stream, length FROM litefleet_offset WHERE execution = ?",
                (rowid,),
            ):
                found.setdefault(sequence, {})[stream] = length
        return found

    def last_rowid(self) -> int:
        rows = self._rows("SELECT max(id) FROM litefleet_execution")
        return int(rows[0][0] or 0)

    def counts(self) -> dict[int, int]:
        """How many there are of each status, without those of the engine's own workflows."""
        rows = self._rows(
            "SELECT status, count(*) FROM litefleet_execution"
            f" WHERE workflow NOT IN {SYSTEM} AND status < {GOING} GROUP BY 1"
        )
        return dict(rows)

    def names(self) -> dict[str, int]:
        return dict(self._rows("SELECT name, id FROM litefleet_name"))

    def heads(self) -> dict[int, int]:
        """The newest event of each open execution."""
        return dict(
            self._rows(
                "SELECT execution, max(sequence) FROM litefleet_event WHERE sequence >="
                " (SELECT min(started) FROM litefleet_execution WHERE closed IS NULL)"
                " AND execution IN (SELECT id FROM litefleet_execution WHERE closed IS NULL)"
                " GROUP BY execution"
            )
        )

    def head(self, rowid: int, started: int) -> int:
        """The newest event of one open execution."""
        rows = self._rows(
            "SELECT max(sequence) FROM litefleet_event WHERE sequence >= ? AND execution = ?",
            (started, rowid),
        )
        return int(rows[0][0])

    def after(self, sequence: int, limit: int) -> list[Event]:
        """The log's events after a sequence, at most `limit`; `commit` is 0 in them."""
        rows = self._rows(
            f"SELECT e.sequence, x.key, e.kind, n.name, e.occurrence, {body_of('e.payload')},"
            f" {seals.time_of('e.sequence')}, 0"
            " FROM litefleet_event e JOIN litefleet_execution x ON x.id = e.execution"
            " JOIN litefleet_name n ON n.id = e.name WHERE e.sequence > ?"
            " ORDER BY e.sequence LIMIT ?",
            (sequence, limit),
        )
        return [Event(row[0], row[1], _KINDS[row[2]], *row[3:]) for row in rows]

    def history_of(self, stored: Stored) -> list[Event]:
        """The events of an execution since it last began."""
        head = stored.closed or self.head(stored.rowid, stored.started)
        return self.history(stored.id, head)

    def history(self, key: str, head: int, *, whole: bool = False, after: int = 0) -> list[Event]:
        """The events of the execution whose newest one is `head`, oldest first: those since it
        last began, or the `whole` of them; only those `after` a sequence."""
        if head <= after:
            return []
        return self.cut_off(
            lambda: read_history(self.reader, self._name_of, key, head, whole=whole, after=after)
        )


def read_history(
    db: apsw.Connection,
    names: dict[int, str],
    key: str,
    head: int,
    *,
    whole: bool = False,
    after: int = 0,
) -> list[Event]:
    """See `Store.history`. `names` are those by number that are known, and learns more."""
    # Always to the end: a statement left open holds a read transaction, and the WAL grows.
    rows: list[Any] = db.execute(_HISTORY, (head, after, whole)).fetchall()
    rows.sort()
    if not all(row[2] in names for row in rows):
        found: list[Any] = db.execute("SELECT id, name FROM litefleet_name").fetchall()
        names.update(found)
    kinds, make = _KINDS, tuple.__new__
    # As Event(...) does, in two thirds of its time.
    return [
        make(Event, (sequence, key, kinds[kind], names[name], occurrence, payload, at, commit))
        for sequence, kind, name, occurrence, payload, at, commit in rows
    ]


def read_events(db: apsw.Connection, version: int) -> Iterator[Event]:
    """Every event of a log of this version, in order."""
    commits = seals.ends(db, version)
    commit, at = 0, 0
    said = body_of("e.payload") if version > 2 else "e.payload"
    for sequence, key, kind, name, occurrence, payload in db.execute(
        f"SELECT e.sequence, x.key, e.kind, n.name, e.occurrence, {said} FROM litefleet_event e"
        " JOIN litefleet_execution x ON x.id = e.execution JOIN litefleet_name n ON n.id = e.name"
        " ORDER BY e.sequence"
    ):
        while sequence > commit:
            found = next(commits, None)
            if found is None:
                raise LogDamaged(f"event {sequence} is in no commit")
            commit, at, _ = found
        yield Event(sequence, key, Kind(kind), name, occurrence, payload, at, commit)


def stored_of_row(row: tuple[Any, ...]) -> Stored:
    """A row of such a query."""
    rowid, key, workflow, code, *rest = row
    rest[-2] = {} if rest[-2] is None else json.loads(rest[-2])
    return Stored(rowid, key, workflow, STATUS_CODES[code], *rest)
