"""Reading what the witnesses hold: logs and tables from SQLite files, the receiver's ledger.

Everything here reads copies and restored files that nobody else has open.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from fleet.demo.facts import Effect, Event, Execution, Row
from node.engine.context import idempotency_key
from node.engine.errors import EngineError
from node.engine.events import RESERVED, Kind
from node.engine.inspection import events_of, inspect_log

LOG_NAME = "log.db"
"""The name of every tenant's database."""

_CLOSED = {Kind.COMPLETED: "completed", Kind.FAILED: "failed"}


@dataclass(frozen=True, slots=True)
class Log:
    """One tenant's log as it was read from a file."""

    tenant: str
    events: tuple[Event, ...]
    executions: dict[str, Execution]


@dataclass(slots=True)
class _Draft:
    started: int
    started_at: float
    status: str = "running"
    result: Any = None
    ended: int | None = None
    ended_at: float | None = None


def read_log(path: Path, effect_step: str) -> Log:
    """Read a whole log. `effect_step`: the activity whose calls reach the receiver.

    Raises EngineError when the file is not a sound log.
    """
    summary = inspect_log(path)
    events: list[Event] = []
    drafts: dict[str, _Draft] = {}
    effects: dict[str, list[str]] = {}
    own: set[str] = set()
    for event in events_of(path):
        at = event.at / 1000
        events.append(
            Event(
                sequence=event.sequence,
                execution=event.execution,
                kind=event.kind.name.lower(),
                step=event.name,
                occurrence=event.occurrence,
                at=at,
            )
        )
        if event.kind is Kind.STARTED and event.name.startswith(RESERVED):
            # The engine's own workflows are nothing that anybody has asked for.
            own.add(event.execution)
        elif event.execution in own:
            continue
        elif event.kind is Kind.STARTED:
            drafts[event.execution] = _Draft(event.sequence, at)
        elif event.kind in _CLOSED:
            draft = drafts[event.execution]
            draft.status = _CLOSED[event.kind]
            draft.result = _json(event.payload)
            draft.ended, draft.ended_at = event.sequence, at
        elif event.kind is Kind.STEP_COMPLETED and event.name == effect_step:
            key = idempotency_key(summary.lineage, event.execution, event.name, event.occurrence)
            effects.setdefault(event.execution, []).append(key)
    executions = {
        id: Execution(
            id=id,
            status=draft.status,
            result=draft.result,
            started=draft.started,
            started_at=draft.started_at,
            ended=draft.ended,
            ended_at=draft.ended_at,
            effects=tuple(effects.get(id, ())),
        )
        for id, draft in drafts.items()
    }
    return Log(summary.tenant, tuple(events), executions)


def _json(payload: str | int | None) -> Any:
    return json.loads(payload) if isinstance(payload, str) else payload


def read_rows(path: Path, table: str, columns: Sequence[str], as_json: Sequence[str]) -> list[Row]:
    """The rows of a tenant's own table; the columns in `as_json` hold JSON text and are parsed.

    Raises apsw.Error when the table cannot be read.
    """
    connection = apsw.Connection(f"file:{path}?immutable=1", flags=_READ_ONLY)
    try:
        names = ", ".join(f'"{column}"' for column in columns)
        rows: list[Row] = []
        for values in connection.execute(f'select {names} from "{table}"'):
            row: dict[str, Any] = dict(zip(columns, values, strict=True))
            for column in as_json:
                row[column] = json.loads(row[column])
            rows.append(row)
        return rows
    finally:
        connection.close()


_READ_ONLY = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI


def read_ledger(path: Path) -> list[Effect]:
    """Every request that the receiver saw, repeats included."""
    effects = []
    for line in path.read_text().splitlines():
        item = json.loads(line)
        effects.append(
            Effect(
                tenant=item["tenant"],
                execution=item["execution"],
                key=item["key"],
                body=item["body"],
                at=float(item["at"]),
            )
        )
    return effects


def copy_logs(data: Path, into: Path) -> list[Path]:
    """Copy every database under a host's folder with its WAL, while nothing writes to them.

    Each goes to a folder of its own, so that SQLite finds the WAL by its name.
    """
    copies = []
    for number, database in enumerate(sorted(data.rglob(LOG_NAME))):
        folder = into / f"{number:03d}"
        folder.mkdir(parents=True, mode=0o700)
        copy = folder / LOG_NAME
        shutil.copyfile(database, copy)
        wal = database.with_name(LOG_NAME + "-wal")
        if wal.exists():
            shutil.copyfile(wal, copy.with_name(LOG_NAME + "-wal"))
        copies.append(copy)
    return copies


def newest_logs(copies: Iterable[Path], effect_step: str) -> dict[str, Log]:
    """Of every tenant among the copies, the log that reaches furthest.

    A copy that is no log is left out: a take-over may have been under way there.
    """
    newest: dict[str, Log] = {}
    for copy in copies:
        try:
            log = read_log(copy, effect_step)
        except (EngineError, apsw.Error):
            continue
        known = newest.get(log.tenant)
        if known is None or len(log.events) > len(known.events):
            newest[log.tenant] = log
    return newest
