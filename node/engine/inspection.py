"""Looking at a log that no engine has open: does it hold together, and what does it say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple, cast

import apsw

from node.engine import blobs, chain, schema, seals
from node.engine.blobs import Kept
from node.engine.chain import Link
from node.engine.errors import LogDamaged, LogRefused
from node.engine.events import BEGINNINGS, GOING, STATUS_CODES, Event, Kind, Payload
from node.engine.gaps import Gaps
from node.engine.identities import Identities
from node.engine.lock import in_use as is_in_use
from node.engine.record import Record
from node.engine.retention import RECORD
from node.engine.sealing import Sealing
from node.engine.seals import End, Row
from node.engine.store import PATIENCE, STEPS, read_events
from node.engine.verified import Verified


@dataclass(frozen=True, slots=True)
class LogSummary:
    """A log that holds together. Times are unix seconds; `chain` is hex."""

    sequence: int
    chain: str
    tenant: str
    lineage: str
    genesis_at: float
    executions: dict[str, int]
    last_commit_at: float | None


def inspect_log(path: Path | str, *, closed: bool = False) -> LogSummary:
    """Verify every rule of the log at `path`, a closed copy, which is left as it is. `closed`
    says that nobody uses it, though it may be locked: by the caller.

    Raises LogMissing, LogRefused (not a log of ours, or a newer one), LogDamaged.
    """
    with opened(Path(path), closed=closed) as db:
        return _Verifier(db, Path(path)).verify()


class Owner(NamedTuple):
    """Whose a log is; `secret` is what its tokens are made with, `identities` also tells whose it
    was before."""

    tenant: str
    lineage: str
    secret: bytes
    identities: Identities


def owner_of(path: Path | str) -> Owner:
    """Whose the log at `path` is, which may be in use. Raises like `inspect_log`."""
    with opened(Path(path)) as db:
        meta = dict(cast(Any, db.execute("SELECT key, value FROM litefleet_meta").fetchall()))
        # Before schema version 2 there was none, and no token either.
        secret = bytes.fromhex(meta.get("secret", "00" * 32))
        return Owner(meta["tenant"], meta["lineage"], secret, Identities.of(meta))


def events_of(path: Path | str) -> Iterator[Event]:
    """The events of a closed copy, in order. Raises like `inspect_log`, but verifies little."""
    with opened(Path(path)) as db:
        yield from read_events(db, schema.version_of(db, Path(path)))


def chain_at(path: Path | str, sequence: int) -> str | None:
    """The chain's value after `sequence` in hex, None when no commit ends there.

    Log A goes on from log B exactly when `chain_at(A, summary_of_B.sequence)` is B's chain.
    """
    with opened(Path(path)) as db:
        end = seals.end_at(db, schema.version_of(db, Path(path)), sequence)
        return None if end is None else bytes(end.chain).hex()


def committed_at(path: Path | str, sequence: int) -> float | None:
    """When the event was committed, in unix seconds; None when it is not in this closed copy."""
    with opened(Path(path)) as db:
        at = seals.time_at(db, schema.version_of(db, Path(path)), sequence)
        return None if at is None else at / 1000


@contextmanager
def opened(path: Path, *, in_use: bool = False, closed: bool = False) -> Iterator[apsw.Connection]:
    """A connection for reading to a log, whatever its version. What changes while it is read may
    only be read from one that is opened as `in_use`; of one that is `closed` it is known that
    nobody uses it, though it may be locked. Raises like `inspect_log`."""
    schema.check_header(path)
    until = inf if closed or in_use or not is_in_use(path) else monotonic() + PATIENCE
    try:
        connect = schema.connect(path, read_only=True) if in_use else schema.connect_copy(path)
        with closing(connect) as db:
            db.set_progress_handler(lambda: monotonic() > until, STEPS)
            schema.version_of(db, path)
            if not in_use:
                # One state of it, should somebody write after all.
                db.execute("BEGIN")
            yield db
    except (apsw.CorruptError, apsw.NotADBError, apsw.SQLError) as error:
        raise LogDamaged(f"{path} is damaged: {error}") from error
    except apsw.InterruptError:
        raise LogRefused(
            f"{path} is in use, and reading it took longer than {PATIENCE:g} s: it was cut off, so"
            " that the log's replica does not wait for it",
            hint="Read a copy: docs/how-to/read-a-log.md says how to take one.",
        ) from None
    except (apsw.CantOpenError, apsw.IOError) as error:
        raise LogRefused(f"{path} cannot be read: {error}") from error


class _Verifier:
    def __init__(self, db: apsw.Connection, path: Path) -> None:
        self.db = db
        self.path = path
        self.version = schema.version_of(db, path)
        self.executions: dict[int, Verified] = {}
        self.blobs: set[bytes] = set()
        """The digests that events have."""
        self.record: Record | None = None
        """What is said to be removed."""

    def verify(self) -> LogSummary:
        found: list[Any] = self.db.execute("PRAGMA integrity_check(1)").fetchall()
        if found != [("ok",)]:
            raise self._damaged(f"SQLite says: {found[0][0]}")
        meta = self._meta()
        start, *commits = self._commits(meta)
        keys = self._keys()
        gaps = self.gaps = Gaps.read(self.db, self.version)
        sealing = Sealing(start, commits, gaps.ranges, gaps.rests)
        try:
            for row in seals.rows(self.db, self.version):
                sealing.reach(row.sequence)
                sealing.add(row, self._event(row, keys))
            sealing.finish()
        except ValueError as error:
            raise self._damaged(str(error)) from None
        end, sequence = sealing.end, sealing.sequence
        counts = self._check_executions(keys)
        self._check_labels(keys)
        self._check_lives(sequence)
        self._check_blobs()
        try:
            gaps.check(start.chain, keys, self.record)
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(str(error)) from None
        return LogSummary(
            sequence=sequence,
            chain=end.chain.hex(),
            tenant=meta["tenant"],
            lineage=meta["lineage"],
            genesis_at=meta["genesis_at"] / 1000,
            executions=counts,
            last_commit_at=end.at / 1000 if sequence else None,
        )

    def _damaged(self, what: str) -> LogDamaged:
        return LogDamaged(f"{self.path}: {what}")

    def _meta(self) -> dict[str, Any]:
        rows: list[Any] = self.db.execute("SELECT key, value FROM litefleet_meta").fetchall()
        meta = dict(rows)
        wanted: dict[str, type] = {"tenant": str, "lineage": str, "genesis_at": int}
        if self.version > 1:
            wanted["secret"] = str
        for key, kind in wanted.items():
            if not isinstance(meta.get(key), kind):
                raise self._damaged(f"its own description lacks {key}")
        try:
            Identities.of(meta)
        except (ValueError, TypeError) as error:
            raise self._damaged(f"it does not say whose it was: {error}") from error
        return meta

    def _commits(self, meta: dict[str, Any]) -> list[End]:
        """The commits that have rows, with the log's beginning."""
        rows: list[Any] = self.db.execute(
            "SELECT sequence, at, chain FROM litefleet_commit ORDER BY sequence"
        ).fetchall()
        start = chain.genesis(*Identities.of(meta).first, meta["genesis_at"])
        if not rows or rows[0] != (0, meta["genesis_at"], start):
            raise self._damaged("its beginning does not match its description")
        return [End(*row) for row in rows]

    def _keys(self) -> dict[int, tuple[str, str, int, int | None, int]]:
        rows: list[Any] = self.db.execute(
            "SELECT x.id, x.key, n.name, x.started, x.closed, x.status FROM litefleet_execution x"
            " LEFT JOIN litefleet_name n ON n.id = x.workflow"
        ).fetchall()
        self.names: dict[int, str] = dict(
            self.db.execute("SELECT id, name FROM litefleet_name").fetchall()  # type: ignore[arg-type]
        )
        if len(set(self.names.values())) != len(self.names):
            raise self._damaged("a name has two numbers")
        return {row[0]: row[1:] for row in rows}

    def _event(self, row: Row, keys: dict[int, Any]) -> Link:
        sequence, execution, back, code, name_id, occurrence, payload, _, _ = row
        if execution not in keys:
            raise self._damaged(f"event {sequence} is of execution {execution}, which is missing")
        if name_id not in self.names:
            raise self._damaged(f"event {sequence} has the name {name_id}, which is missing")
        try:
            kind = Kind(code)
        except ValueError:
            raise self._damaged(f"event {sequence} is of the unknown kind {code}") from None
        name = self.names[name_id]
        try:
            said = self._said(payload)
            event = Event(sequence, keys[execution][0], kind, name, occurrence, said, 0, 0)
            self._follow(execution, event, back)
            if event.execution == RECORD and kind is Kind.STARTED:
                self.record = Record.read(said)
        except (ValueError, KeyError, TypeError) as error:
            words = f"event {sequence} ({kind.name.lower()} {name} #{occurrence})"
            raise self._damaged(f"{words}: {error}") from None
        return sequence, keys[execution][0], code, name, occurrence, payload

    def _said(self, payload: Kept) -> Payload:
        """What a payload says. Raises KeyError, ValueError."""
        said = blobs.body(self.db, payload)
        if isinstance(payload, bytes):
            if blobs.digest_of(str(said)) != payload:
                raise ValueError("its payload does not match its digest")
            self.blobs.add(payload)
        return said

    def _follow(self, rowid: int, event: Event, back: int) -> None:
        execution = self.executions.get(rowid)
        if event.kind is Kind.REOPENED and execution is not None:
            self.executions[rowid] = self._reopened(rowid, execution, event, back)
            return
        if execution is None:
            execution = self.executions[rowid] = Verified()
        execution.add(event, back, self._cut(execution, event))

    def _cut(self, execution: Verified, event: Event) -> bool:
        """Whether it may be that what came before this event was removed."""
        return event.kind in BEGINNINGS and self.gaps.between(execution.last, event.sequence)

    def _reopened(self, rowid: int, execution: Verified, event: Event, back: int) -> Verified:
        """What stands of an execution that is tried again."""
        cut = execution.reopen(event, back)
        # Built up again from what is not void; rare enough to be slow.
        stack: list[Event] = []
        for row in self.db.execute(
            "SELECT sequence, kind, name, occurrence, payload FROM litefleet_event"
            " WHERE execution = ? AND sequence < ? ORDER BY sequence",
            (rowid, event.sequence),
        ).fetchall():
            sequence, code, name, occurrence, payload = cast("tuple[Any, ...]", row)
            said = blobs.body(self.db, payload)
            past = Event(sequence, "", Kind(code), self.names[name], occurrence, said, 0, 0)
            if past.kind is Kind.REOPENED:
                stack = [one for one in stack if one.sequence < int(str(past.payload))]
            stack.append(past)
        fresh = Verified()
        for past in stack:
            if past.sequence < cut:
                fresh.stand(past, self._cut(fresh, past))
        fresh.wait_again()
        fresh.labels = execution.labels
        fresh.last = event.sequence
        return fresh

    def _check_labels(self, keys: dict[int, Any]) -> None:
        """The table has what the events say, and nothing of what is being removed."""
        found: dict[int, dict[str, str]] = {}
        if self.version > 2:
            sql = "SELECT execution, name, value FROM litefleet_label"
            for execution, name, value in cast("Any", self.db.execute(sql)):
                found.setdefault(execution, {})[name] = value
        for rowid, (key, *_, status) in keys.items():
            wanted = {} if status == GOING else self.executions[rowid].labels
            if found.pop(rowid, {}) != wanted:
                raise self._damaged(f"execution {key!r} is not labelled as its events say")
        if found:
            raise self._damaged(f"execution {min(found)} has labels, and is missing")

    def _check_lives(self, newest: int) -> None:
        """Each engine that opened the log found at least what the one before it found."""
        if self.version < 2:
            return
        last = 0
        for row in self.db.execute("SELECT sequence, ended FROM litefleet_life ORDER BY id"):
            sequence, ended = cast("tuple[Any, Any]", row)
            if not isinstance(sequence, int) or not last <= sequence <= newest:
                raise self._damaged(f"an engine is said to have opened it at event {sequence!r}")
            if ended not in (0, 1):
                raise self._damaged("it does not say whether an engine closed it")
            last = sequence

    def _check_blobs(self) -> None:
        """Nothing is kept that no event says."""
        if self.version > 2:
            found: list[Any] = self.db.execute("SELECT count(*) FROM litefleet_blob").fetchall()
            if found[0][0] != len(self.blobs):
                raise self._damaged("it has payloads that are of no event")

    def _check_executions(self, keys: dict[int, Any]) -> dict[str, int]:
        counts = {status.value: 0 for status in STATUS_CODES.values()}
        for rowid, (key, workflow, started, closed, status) in keys.items():
            execution = self.executions.get(rowid)
            if execution is None:
                raise self._damaged(f"execution {key!r} has no events")
            if status == GOING:
                if (execution.workflow, execution.last) != (workflow, closed):
                    raise self._damaged(f"execution {key!r}, which is going, has another end")
                continue
            try:
                execution.check_whole()
            except ValueError as error:
                raise self._damaged(f"execution {key!r}: {error}") from None
            said = (execution.workflow, execution.started, execution.closed, execution.status)
            if said != (workflow, started, closed, status):
                raise self._damaged(f"execution {key!r} is not listed as its events say")
            counts[STATUS_CODES[status].value] += 1
        return counts
