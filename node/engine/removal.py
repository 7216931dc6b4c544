"""What the writer does to remove executions and histories: one transaction of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import apsw

from node.engine.blobs import body_of
from node.engine.cut import Cut
from node.engine.errors import LogDamaged
from node.engine.events import BEGINNINGS, GOING, RESERVED, Kind
from node.engine.gone import forget, remember
from node.engine.record import Record, record_of
from node.engine.removed import SIZE, Fingerprint, Range
from node.engine.retention import RECORD
from node.engine.schema import fetch_all
from node.engine.writer import Entry

_BEGINNINGS: Final = ", ".join(str(kind.value) for kind in sorted(BEGINNINGS))
_CHUNKS: Final = f"{Kind.CHUNK.value}, {Kind.STEP_CHUNK.value}"
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
            forget(db, *self.sweep, at)
            return []
        begun = timer()
        self.gone, self.hidden, self.undone, self.trimmed = set(), [], [], 0
        knife = Knife(db, at, self.secret)
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


class Knife:
    """Collects what goes, then takes it out."""

    def __init__(self, db: apsw.Connection, at: int, secret: bytes) -> None:
        self._db = db
        self._at = at
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
        found = fetch_all(
            self._db, "SELECT id, closed FROM litefleet_execution WHERE key = ?", (RECORD,)
        )
        for rowid, closed in found:
            self._walk(closed, 0, -1)
            self._drop(rowid)

    def execution(self, rowid: int, until: int, most: int) -> tuple[str, int] | None:
        """An execution that was closed by the event `until`, or as much of it as `most` events,
        the newest first; its workflow and status, None if it is not to be removed."""
        self.part = False
        found = fetch_all(
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
            remember(self._db, self._secret, key, rows, self._at)
        before = _before(rows)
        if before:
            self.part = True
            self._finally.append(
                (
                    "UPDATE litefleet_execution SET status = ?, closed = ? WHERE id = ?",
                    (GOING, before, rowid),
                )
            )
            self._forget_labels(rowid)
            self._forget_offsets(rowid)
        else:
            self._drop(rowid)
        return workflow, status

    def history(self, rowid: int, beginning: int, most: int) -> bool:
        """What an execution has before the event `beginning`, but for how it was started; or as
        much of it as `most` events. Whether that was all."""
        self.part = False
        found = fetch_all(
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
        rows = fetch_all(self._db, _WALK, (newest, stop, most))
        if not rows or (len(rows) != most and _before(rows) > stop):
            raise LogDamaged(f"event {_before(rows) if rows else newest} is missing")
        self.gone += [row[0] for row in rows]
        self._blobs.update(row[5] for row in rows if isinstance(row[5], bytes))
        return rows

    def _drop(self, rowid: int) -> None:
        self._finally.append(("DELETE FROM litefleet_execution WHERE id = ?", (rowid,)))
        self._forget_labels(rowid)
        self._forget_offsets(rowid)

    def _forget_labels(self, rowid: int) -> None:
        self._finally.append(("DELETE FROM litefleet_label WHERE execution = ?", (rowid,)))

    def _forget_offsets(self, rowid: int) -> None:
        self._finally.append(("DELETE FROM litefleet_offset WHERE execution = ?", (rowid,)))

    def _offsets(self, rowid: int, beginning: int, newest: int) -> None:
        """How long the execution's streams are where this history begins."""
        known = fetch_all(
            self._db,
            "SELECT sequence, stream, length FROM litefleet_offset WHERE execution = ?"
            " AND sequence <= ? ORDER BY sequence",
            (rowid, beginning),
        )
        if known and known[-1][0] == beginning:
            return
        nearest = known[-1][0] if known else 0
        lengths = {stream: length for sequence, stream, length in known if sequence == nearest}
        for stream, length in fetch_all(self._db, _LENGTHS, (newest, nearest)):
            lengths[stream] = lengths.get(stream, 0) + length
        self._db.executemany(
            "INSERT INTO litefleet_offset VALUES (?, ?, ?, ?)",
            [(rowid, beginning, stream, length) for stream, length in lengths.items() if length],
        )

    def cut(self) -> list[Range]:
        """Take out what was collected; the ranges that it was."""
        return Cut(self._db).take(self.gone, self._blobs, self._change)

    def _change(self) -> None:
        for sql, values in self._finally:
            self._db.execute(sql, values)


def _before(rows: list[Any]) -> int:
    """The event before the last of these, 0 if there is none."""
    sequence, back, *_ = rows[-1]
    return sequence - back if back else 0


def _hex(number: int) -> str:
    return f"{number:0{2 * SIZE}x}"
