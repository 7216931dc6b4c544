"""Looking at a log that no engine has open: does it hold together, and what does it say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from node.engine import chain, schema
from node.engine.chain import Link
from node.engine.errors import LogDamaged, LogRefused
from node.engine.events import (
    CLOSED_AS,
    CLOSING,
    MESSAGES,
    STATUS_CODES,
    TIMER_STEP,
    UPDATE_ENDS,
    Event,
    Kind,
    Payload,
    opened,
)
from node.engine.store import read_events


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


def inspect_log(path: Path | str) -> LogSummary:
    """Verify every rule of the log at `path`, a closed copy, which is left as it is.

    Raises LogMissing, LogRefused (not a log of ours, or a newer one), LogDamaged.
    """
    with _opened(Path(path)) as db:
        return _Verifier(db, Path(path)).verify()


def events_of(path: Path | str) -> Iterator[Event]:
    """The events of a closed copy, in order. Raises like `inspect_log`, but verifies little."""
    with _opened(Path(path)) as db:
        yield from read_events(db)


def chain_at(path: Path | str, sequence: int) -> str | None:
    """The chain's value after `sequence` in hex, None when no commit ends there.

    Log A goes on from log B exactly when `chain_at(A, summary_of_B.sequence)` is B's chain.
    """
    with _opened(Path(path)) as db:
        rows: list[Any] = db.execute(
            "SELECT chain FROM litefleet_commit WHERE sequence = ?", (sequence,)
        ).fetchall()
        return bytes(rows[0][0]).hex() if rows else None


@contextmanager
def _opened(path: Path) -> Iterator[apsw.Connection]:
    schema.check_header(path)
    try:
        with closing(schema.connect_copy(path)) as db:
            schema.version_of(db, path)
            yield db
    except (apsw.CorruptError, apsw.NotADBError, apsw.SQLError) as error:
        raise LogDamaged(f"{path} is damaged: {error}") from error
    except (apsw.CantOpenError, apsw.IOError) as error:
        raise LogRefused(f"{path} cannot be read: {error}") from error


class _Execution:
    """What the events have said about one execution so far."""

    __slots__ = (
        "called",
        "closed",
        "keys",
        "last",
        "received",
        "settled",
        "started",
        "status",
        "updated",
        "workflow",
    )

    def __init__(self, started: int, workflow: str) -> None:
        self.started = started
        self.workflow = workflow
        self.last = started
        self.closed: int | None = None
        self.status = 0
        self.called: dict[str, int] = {}
        self.settled: set[tuple[str, int]] = set()
        self.received: dict[tuple[Kind, str], int] = {}
        self.keys: set[tuple[Kind, str, str]] = set()
        self.updated: set[tuple[str, int]] = set()


class _Verifier:
    def __init__(self, db: apsw.Connection, path: Path) -> None:
        self.db = db
        self.path = path
        self.executions: dict[int, _Execution] = {}

    def verify(self) -> LogSummary:
        found: list[Any] = self.db.execute("PRAGMA integrity_check(1)").fetchall()
        if found != [("ok",)]:
            raise self._damaged(f"SQLite says: {found[0][0]}")
        meta = self._meta()
        commits = self._commits(meta)
        keys = self._keys()
        links: list[Link] = []
        sequence, value, last_at = 0, commits[0][2], commits[0][1]
        at = 1
        for row in self.db.execute(
            "SELECT sequence, execution, back, kind, name, occurrence, payload"
            " FROM litefleet_event ORDER BY sequence"
        ):
            links.append(self._event(row, sequence, keys))
            sequence = links[-1][0]
            if at >= len(commits) or sequence > commits[at][0]:
                raise self._damaged(f"event {sequence} is in no commit")
            if sequence == commits[at][0]:
                value = self._commit(commits[at], value, last_at, links)
                last_at = commits[at][1]
                links = []
                at += 1
        if links or at != len(commits):
            missing = commits[at][0] if at < len(commits) else sequence
            raise self._damaged(f"the events of the commit that ends at {missing} are not all here")
        counts = self._check_executions(keys)
        return LogSummary(
            sequence=sequence,
            chain=value.hex(),
            tenant=meta["tenant"],
            lineage=meta["lineage"],
            genesis_at=meta["genesis_at"] / 1000,
            executions=counts,
            last_commit_at=last_at / 1000 if sequence else None,
        )

    def _damaged(self, what: str) -> LogDamaged:
        return LogDamaged(f"{self.path}: {what}")

    def _meta(self) -> dict[str, Any]:
        rows: list[Any] = self.db.execute("SELECT key, value FROM litefleet_meta").fetchall()
        meta = dict(rows)
        wanted = {"tenant": str, "lineage": str, "genesis_at": int}
        for key, kind in wanted.items():
            if not isinstance(meta.get(key), kind):
                raise self._damaged(f"its own description lacks {key}")
        return meta

    def _commits(self, meta: dict[str, Any]) -> list[tuple[int, int, bytes]]:
        rows: list[Any] = self.db.execute(
            "SELECT sequence, at, chain FROM litefleet_commit ORDER BY sequence"
        ).fetchall()
        start = chain.genesis(meta["tenant"], meta["lineage"], meta["genesis_at"])
        if not rows or rows[0] != (0, meta["genesis_at"], start):
            raise self._damaged("its beginning does not match its description")
        return rows

    def _keys(self) -> dict[int, tuple[str, str, int, int | None, int]]:
        rows: list[Any] = self.db.execute(
            "SELECT x.id, x.key, n.name, x.started, x.closed, x.status FROM litefleet_execution x"
            " LEFT JOIN litefleet_name n ON n.id = x.workflow"
        ).fetchall()
        self.names: dict[int, str] = dict(
            self.db.execute("SELECT id, name FROM litefleet_name").fetchall()  # type: ignore[arg-type]
        )
        return {row[0]: row[1:] for row in rows}

    def _event(self, row: Any, previous: int, keys: dict[int, Any]) -> Link:
        sequence, execution, back, code, name_id, occurrence, payload = row
        if sequence != previous + 1:
            raise self._damaged(f"event {previous + 1} is missing; {sequence} follows {previous}")
        if execution not in keys:
            raise self._damaged(f"event {sequence} is of execution {execution}, which is missing")
        if name_id not in self.names:
            raise self._damaged(f"event {sequence} has the name {name_id}, which is missing")
        try:
            kind = Kind(code)
        except ValueError:
            raise self._damaged(f"event {sequence} is of the unknown kind {code}") from None
        name = self.names[name_id]
        self._follow(sequence, execution, back, kind, name, occurrence, payload)
        return sequence, keys[execution][0], code, name, occurrence, payload

    def _follow(
        self,
        sequence: int,
        rowid: int,
        back: int,
        kind: Kind,
        name: str,
        occurrence: int,
        payload: Payload,
    ) -> None:
        """The order of one execution's events."""
        here = f"event {sequence} ({kind.name.lower()} {name} #{occurrence})"
        execution = self.executions.get(rowid)
        if kind is Kind.STARTED:
            if execution is not None or back != 0:
                raise self._damaged(f"{here} starts an execution again")
            self.executions[rowid] = _Execution(sequence, name)
            return
        if execution is None:
            raise self._damaged(f"{here} comes before its execution's start")
        if execution.closed is not None:
            raise self._damaged(f"{here} comes after its execution's end")
        if sequence - back != execution.last:
            raise self._damaged(f"{here} does not follow event {execution.last}")
        execution.last = sequence
        step = (name, occurrence)
        if kind in CLOSING:
            execution.closed, execution.status = sequence, CLOSED_AS[kind]
        elif kind in (Kind.STEP, Kind.TIMER):
            if (kind is Kind.TIMER) != (name == TIMER_STEP):
                raise self._damaged(f"{here} is no name for it")
            if (kind is Kind.TIMER) != isinstance(payload, int):
                raise self._damaged(f"{here} has a payload of the wrong kind")
            if occurrence != execution.called.get(name, 0) + 1:
                raise self._damaged(f"{here} is out of order")
            execution.called[name] = occurrence
        elif kind in MESSAGES:
            self._received(here, execution, kind, name, occurrence, payload)
        elif kind in UPDATE_ENDS:
            if not 0 < occurrence <= execution.received.get((Kind.UPDATE, name), 0):
                raise self._damaged(f"{here} answers no update")
            if step in execution.updated:
                raise self._damaged(f"{here} is a second answer")
            execution.updated.add(step)
        elif not 0 < occurrence <= execution.called.get(name, 0):
            raise self._damaged(f"{here} has no intent")
        elif (kind is Kind.TIMER_FIRED) != (name == TIMER_STEP):
            raise self._damaged(f"{here} is no outcome of that step")
        elif kind in (Kind.STEP_COMPLETED, Kind.STEP_FAILED, Kind.TIMER_FIRED):
            if step in execution.settled:
                raise self._damaged(f"{here} is a second outcome")
            execution.settled.add(step)

    def _received(
        self,
        here: str,
        execution: _Execution,
        kind: Kind,
        name: str,
        occurrence: int,
        payload: Payload,
    ) -> None:
        try:
            _, key = opened(payload)
        except ValueError as error:
            raise self._damaged(f"{here}: {error}") from None
        if occurrence != execution.received.get((kind, name), 0) + 1:
            raise self._damaged(f"{here} is out of order")
        execution.received[kind, name] = occurrence
        if key is not None:
            if (kind, name, key) in execution.keys:
                raise self._damaged(f"{here} arrived before, with the same key")
            execution.keys.add((kind, name, key))

    def _commit(
        self, commit: tuple[int, int, bytes], value: bytes, last_at: int, links: list[Link]
    ) -> bytes:
        sequence, at, stored = commit
        if at < last_at:
            raise self._damaged(f"the commit that ends at {sequence} goes back in time")
        expected = chain.link(value, at, links)
        if expected != stored:
            raise self._damaged(f"the commit that ends at {sequence} does not match its hash")
        return expected

    def _check_executions(self, keys: dict[int, Any]) -> dict[str, int]:
        counts = {status.value: 0 for status in STATUS_CODES.values()}
        for rowid, (key, workflow, started, closed, status) in keys.items():
            execution = self.executions.get(rowid)
            if execution is None:
                raise self._damaged(f"execution {key!r} has no events")
            said = (execution.workflow, execution.started, execution.closed, execution.status)
            if said != (workflow, started, closed, status):
                raise self._damaged(f"execution {key!r} is not listed as its events say")
            counts[STATUS_CODES[status].value] += 1
        return counts
