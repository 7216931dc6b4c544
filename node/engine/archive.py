"""One execution as a file: taken out of a log, and replayed against code elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from node.engine.application import Application
from node.engine.beginning import Beginning, standing
from node.engine.durability import Durability, effective
from node.engine.errors import ArchiveRefused, DeterminismError, Divergence, UnknownWorkflow
from node.engine.events import Event, Kind
from node.engine.fork_source import Source
from node.engine.forked import Identity
from node.engine.live import Origin
from node.engine.run import Run
from node.engine.verified import verify_execution

FORMAT: Final = "litefleet-execution"
#: Version 2 has children, and a digest that tells damage.
VERSION: Final = 2


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

    `secret` is what its tokens were made with (hex), and is of use for nothing else. `children`
    are the executions that it started, where they were asked for. `digest` is over all of it; it
    tells damage, and is no signature.
    """

    model_config = ConfigDict(extra="forbid")

    format: str = FORMAT
    version: int = VERSION
    tenant: str
    lineage: str
    execution: str
    workflow: str
    durability: Durability
    secret: str
    rows: list[_Row]
    children: list[Archive] = []
    digest: str = ""

    @staticmethod
    def of(events: Sequence[Event], *, children: Sequence[Archive] = (), **about: Any) -> Archive:
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
        archive = Archive(
            execution=first.execution,
            workflow=first.name,
            rows=rows,
            children=list(children),
            **about,
        )
        return archive.model_copy(update={"digest": archive.true_digest()})

    @staticmethod
    def read(text: str | bytes) -> Archive:
        """Raises ArchiveRefused for what is no archive, a damaged one, or a newer one."""
        try:
            body = json.loads(text)
        except ValueError as error:
            raise ArchiveRefused(f"this is no archive of an execution: {error}") from None
        return Archive.checked(body)

    @staticmethod
    def checked(body: Any) -> Archive:
        """Like `read`, from decoded JSON. Raises ArchiveRefused."""
        if not isinstance(body, dict) or body.get("format") != FORMAT:
            raise ArchiveRefused("this is no archive of an execution")
        version = body.get("version")
        if isinstance(version, int) and version > VERSION:
            raise ArchiveRefused(
                f"this archive was written by a newer Litefleet (version {version}; this one reads"
                f" up to {VERSION})",
                hint="Upgrade Litefleet here. Nothing was changed.",
            )
        try:
            archive = Archive.model_validate(body)
        except ValidationError as error:
            details = error.errors(include_url=False, include_context=False, include_input=False)
            words = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in details[:3]]
            raise ArchiveRefused(
                f"this is no archive of an execution: {'; '.join(words)}"
            ) from None
        return archive.whole()

    def whole(self) -> Archive:
        """Itself, if it holds together. Raises ArchiveRefused."""
        true = self.true_digest()
        if self.version > 1 and self.digest != true:
            raise ArchiveRefused(f"the archive of {self.execution!r} does not match its digest")
        try:
            _ = bytes.fromhex(self.secret)
            events = self.events
            verify_execution(events)
            if events[0].name != self.workflow:
                raise ValueError("its first event is another workflow's")
            for before, event in pairwise(events):
                if event.at < before.at or event.commit < before.commit:
                    raise ValueError(f"event {event.sequence} goes back in time")
        except (ValueError, KeyError) as error:
            raise ArchiveRefused(f"the archive of {self.execution!r}: {error}") from None
        children = [child.whole() for child in self.children]
        return self.model_copy(update={"digest": true, "children": children})

    def true_digest(self) -> str:
        """What `digest` must be."""
        body = self.model_dump(mode="json", exclude={"digest", "children", "version"})
        body["children"] = [child.digest for child in self.children]
        text = json.dumps(body, sort_keys=True, separators=(",", ":"))
        return blake2b(text.encode(), digest_size=16).hexdigest()

    @property
    def events(self) -> list[Event]:
        """Its events, in order. Raises KeyError for one of an unknown kind."""
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
    left the log, and `refused` what it did that no replay could repeat. `patches` are those that
    it asked for, and whether it took their new path."""

    execution: str
    events: int
    divergence: Divergence | None = None
    refused: DeterminismError | None = None
    patches: Mapping[str, bool] = field(default_factory=dict)

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
        labels=Origin.of(history).labels,
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
    return Replayed(first.execution, len(history), patches=run.patches)


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


def source_of(archive: Archive) -> Source:
    """An archive as what is forked, or recorded."""
    history = standing(archive.events)
    who = Identity(
        archive.execution,
        archive.tenant,
        archive.lineage,
        Beginning.of(history[0]).run,
        bytes.fromhex(archive.secret),
    )
    return Source(who, history, foreign=True, digest=archive.digest)
