"""Recorded executions against an application's code: does it still do what their logs hold?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel

from fleet.problem import Problem
from node.engine import guard
from node.engine.application import Application
from node.engine.archive import Archive, Replayed, replay
from node.engine.durability import Durability
from node.engine.errors import EngineError, PayloadError
from node.engine.events import BEGINNINGS, RESERVED, Event
from node.engine.external import execution_secret
from node.engine.inspection import events_of, owner_of

_SQLITE = b"SQLite format 3\0"


class Failure(BaseModel):
    """An execution whose log the code does not follow.

    `sequence`, `logged` and `did` say where a divergence is: the event, what the log holds there,
    and what the code did.
    """

    file: str
    execution: str
    workflow: str
    type: str
    message: str
    sequence: int | None = None
    logged: str | None = None
    did: str | None = None
    hint: str


class WorkflowCount(BaseModel):
    """The executions of one workflow: how many follow their logs, and how many do not."""

    followed: int = 0
    failed: int = 0


class ReplayReport(BaseModel):
    """What came of a replay. `events` counts those of all executions."""

    ok: bool = True
    executions: int = 0
    events: int = 0
    workflows: dict[str, WorkflowCount] = {}
    failures: list[Failure] = []


def replay_files(
    paths: Iterable[Path],
    application: Application,
    *,
    ids: frozenset[str] = frozenset(),
    floor: Durability = Durability.ASYNC,
) -> ReplayReport:
    """Replay what is in archives, logs, and folders of both; only these `ids`, if there are any.

    `floor` is the durability of the tenants that logs are from; an archive says its own. Raises
    Problem when a file cannot be read, or when there is nothing to replay.
    """
    guard.install()
    report = ReplayReport()
    for path in files_of(paths):
        for about, events in _histories(path, ids, floor):
            _replay(report, path, application, about, events)
    if not report.executions:
        named = f" with the id {', '.join(sorted(ids))}" if ids else ""
        raise Problem(
            "nothing_to_replay",
            f"There is no execution{named} in these files.",
            "Export some: `litefleet exec export ID`, or name a log.",
        )
    report.ok = not report.failures
    return report


class _About(NamedTuple):
    tenant: str
    lineage: str
    secret: bytes
    floor: Durability


def files_of(paths: Iterable[Path]) -> Iterator[Path]:
    """The archives and logs that these paths are, or have in them."""
    for path in paths:
        if path.is_dir():
            yield from sorted(one for one in path.iterdir() if one.suffix in (".json", ".db"))
        else:
            yield path


def is_log(path: Path) -> bool:
    """Whether a file is a log, and not an archive."""
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def _histories(
    path: Path, ids: frozenset[str], floor: Durability
) -> Iterator[tuple[_About, list[Event]]]:
    try:
        if is_log(path):
            yield from _of_log(path, ids, floor)
        else:
            yield from _of_archive(path, ids)
    except PayloadError as error:
        raise Problem("no_archive", f"{path}: {error}.", error.hint) from error


def _of_archive(path: Path, ids: frozenset[str]) -> Iterator[tuple[_About, list[Event]]]:
    archive = Archive.read(path.read_bytes())
    if not ids or archive.execution in ids:
        secret = bytes.fromhex(archive.secret)
        about = _About(archive.tenant, archive.lineage, secret, archive.durability)
        yield about, archive.events


def _of_log(
    path: Path, ids: frozenset[str], floor: Durability
) -> Iterator[tuple[_About, list[Event]]]:
    owner = owner_of(path)
    histories: dict[str, list[Event]] = {}
    for event in events_of(path):
        if ids and event.execution not in ids:
            continue
        if event.kind in BEGINNINGS:
            histories[event.execution] = []
        histories[event.execution].append(event)
    for execution, history in histories.items():
        secret = execution_secret(owner.secret, execution)
        tenant, lineage = owner.identities.at(history[0].sequence)
        yield _About(tenant, lineage, secret, floor), history


def _replay(
    report: ReplayReport, path: Path, application: Application, about: _About, events: list[Event]
) -> None:
    workflow, execution = events[0].name, events[0].execution
    if workflow.startswith(RESERVED):
        return  # The engine's own, which the application does not have.
    report.executions += 1
    report.events += len(events)
    count = report.workflows.setdefault(workflow, WorkflowCount())
    error: EngineError | None
    try:
        done: Replayed = replay(
            events,
            application,
            tenant=about.tenant,
            lineage=about.lineage,
            secret=about.secret,
            floor=about.floor,
        )
    except EngineError as unknown:
        error = unknown
    else:
        error = done.divergence or done.refused
    if error is None:
        count.followed += 1
        return
    count.failed += 1
    report.failures.append(
        Failure(
            file=str(path),
            execution=execution,
            workflow=workflow,
            type=type(error).__name__,
            message=str(error),
            sequence=getattr(error, "sequence", None),
            logged=getattr(error, "logged", None),
            did=getattr(error, "did", None),
            hint=error.hint,
        )
    )
