"""One execution as a file: taken out of a log, and replayed against code elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from node.engine.application import Application
from node.engine.beginning import Beginning, standing
from node.engine.durability import Durability, effective
from node.engine.errors import DeterminismError, Divergence, PayloadError, UnknownWorkflow
from node.engine.events import Event, Kind
from node.engine.live import Origin
from node.engine.run import Run

FORMAT = "litefleet-execution"


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid")

    sequence: int
    kind: str
    name: str
    occurrence: int
    payload: str | int | None = None
    at: int
    commit: int


class Archive(BaseModel):
    """One execution with all its events. Write it with `model_dump_json`.

    `secret` is what its tokens were made with (hex), and is of use for nothing else.
    """

    model_config = ConfigDict(extra="forbid")

    format: str = FORMAT
    version: int = 1
    tenant: str
    lineage: str
    execution: str
    workflow: str
    durability: Durability
    secret: str
    rows: list[_Row]

    @staticmethod
    def of(events: Sequence[Event], **about: Any) -> Archive:
        """An archive of these events, the whole of one execution."""
        rows = [
            _Row(
                sequence=event.sequence,
                kind=event.kind.name.lower(),
                name=event.name,
                occurrence=event.occurrence,
                payload=event.payload,
                at=event.at,
                commit=event.commit,
            )
            for event in events
        ]
        first = events[0]
        return Archive(execution=first.execution, workflow=first.name, rows=rows, **about)

    @staticmethod
    def read(text: str | bytes) -> Archive:
        """Raises PayloadError for what is no archive, or one of a newer version."""
        try:
            archive = Archive.model_validate_json(text)
            if archive.format != FORMAT or archive.version > 1 or not archive.rows:
                raise PayloadError("this is no archive of an execution that can be read here")
            _ = archive.events
        except (ValidationError, KeyError) as error:
            raise PayloadError(f"this is no archive of an execution: {error}") from error
        return archive

    @property
    def events(self) -> list[Event]:
        """Its events, in order."""
        return [
            Event(
                row.sequence,
                self.execution,
                Kind[row.kind.upper()],
                row.name,
                row.occurrence,
                row.payload,
                row.at,
                row.commit,
            )
            for row in self.rows
        ]


@dataclass(frozen=True, slots=True)
class Replayed:
    """How a replay went. `events` is how many were followed; `divergence` says where the code
    left the log, and `refused` what it did that no replay could repeat."""

    execution: str
    events: int
    divergence: Divergence | None = None
    refused: DeterminismError | None = None

    @property
    def ok(self) -> bool:
        """The code follows the log to its end."""
        return self.divergence is None and self.refused is None


def replay(
    events: Iterable[Event],
    application: Application,
    *,
    tenant: str,
    lineage: str,
    secret: bytes = bytes(32),
    floor: Durability = Durability.ASYNC,
) -> Replayed:
    """Follow one execution's events with an application's code. Nothing has an effect.

    `tenant`, `lineage` and `secret` are those of the log the events are from, and `floor` its
    durability. Raises UnknownWorkflow.
    """
    history = standing(events)
    first = history[0]
    definition = application.workflows.get(first.name)
    if definition is None:
        raise UnknownWorkflow(f"{application.name} has no workflow {first.name!r}")
    run = Run(
        key=first.execution,
        workflow=definition,
        beginning=Beginning.of(first),
        tenant=tenant,
        lineage=lineage,
        secret=secret,
        schedule=Origin.of(history).schedule,
    )
    level = effective(floor, definition.durability)
    try:
        run.replay(history, strict=level is not Durability.EVERY_COMMIT)
    except Divergence as divergence:
        return Replayed(first.execution, len(history), divergence=divergence)
    except DeterminismError as refused:
        return Replayed(first.execution, len(history), refused=refused)
    finally:
        run.drop()
    return Replayed(first.execution, len(history))


def replay_archive(archive: Archive, application: Application) -> Replayed:
    """Like `replay`, from an archive. Raises UnknownWorkflow."""
    return replay(
        archive.events,
        application,
        tenant=archive.tenant,
        lineage=archive.lineage,
        secret=bytes.fromhex(archive.secret),
        floor=archive.durability,
    )
