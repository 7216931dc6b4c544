"""The versions of an application that one engine runs side by side."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from node.engine.application import Application
from node.engine.definition import Workflow
from node.engine.errors import DefinitionError, PayloadError, UnknownWorkflow, VersionMissing
from node.engine.events import RESERVED, Event, Kind
from node.engine.live import Live, Origin
from node.engine.queue import Queue
from node.engine.queue_ticket import Ticket
from node.engine.signals import Signal


@dataclass(frozen=True, slots=True)
class VersionView:
    """A version of the application, and the open executions that need its code.

    `current` is that of new starts. One that is not `loaded` is waited for. `pinned` are those of
    the `open` ones that will not move to another version.
    """

    version: str | None
    current: bool
    loaded: bool
    open: int
    pinned: int


class Releases:
    """The current application, and older versions of it that pinned executions run with."""

    def __init__(self, current: Application, kept: Sequence[Application] = ()) -> None:
        """Raises DefinitionError for versions that cannot be told apart."""
        self.current = current
        self.kept: dict[str, Application] = {}
        for older in kept:
            if older.version is None:
                raise DefinitionError(
                    f"{older.name} is kept beside {current.name}, and has no version",
                    hint='Give it one: APPLICATION_VERSION = "1" in its module.',
                )
            if older.version == current.version or older.version in self.kept:
                raise DefinitionError(
                    f"there are two applications with the version {older.version!r}",
                    hint="Give each its own APPLICATION_VERSION, or keep only one of them.",
                )
            self.kept[older.version] = older

    @property
    def queues(self) -> Mapping[str, Queue]:
        """Those of the current version, and those that only an older one has."""
        found: dict[str, Queue] = {}
        for older in self.kept.values():
            found |= older.queues
        return {**found, **self.current.queues}

    def of(self, origin: Origin) -> Application | None:
        """The version that an execution runs with; None when it is not loaded."""
        if origin.pin is None or origin.pin == self.current.version:
            return self.current
        return self.kept.get(origin.pin)

    def definition(self, workflow: str, origin: Origin) -> Workflow[..., Any] | None:
        """The workflow's code in that version."""
        application = self.of(origin)
        return None if application is None else application.workflows.get(workflow)

    def signal(self, name: str, origin: Origin | None) -> Signal[Any] | None:
        """How that version declares a signal, if it does."""
        application = self.current if origin is None else self.of(origin)
        return None if application is None else application.signals.get(name)

    def missing(self, workflow: str, origin: Origin) -> VersionMissing | UnknownWorkflow:
        """Why there is no such code."""
        application = self.of(origin)
        if application is None:
            return VersionMissing(f"waits for version {origin.pin} of the application")
        return UnknownWorkflow(
            f"the application {application.name} has no workflow {workflow!r},"
            " which this execution runs"
        )

    # Beginning --------------------------------------------------------------------------------

    def asked(self, pinned: bool | None, ticket: Ticket | None, trace: str | None) -> Origin | None:
        """Where an execution comes from that is started from outside; None where that says
        nothing. Raises PayloadError."""
        if pinned is None and ticket is None and trace is None:
            return None
        if pinned and self.current.version is None:
            raise PayloadError(
                f"{self.current.name} has no version that an execution could be pinned to",
                hint='Give it one: APPLICATION_VERSION = "1" in its module.',
            )
        pin = self.current.version if pinned else None
        return Origin(trace=trace, ticket=ticket, pin=pin, loose=pinned is False)

    def begun(self, workflow: str, origin: Origin | None) -> Origin:
        """The same, with the version that it begins with."""
        version = self.current.version
        definition = self.current.workflows.get(workflow)
        pins = definition is not None and definition.pinned
        if origin is None:
            return Origin(version=version, pin=version if pins else None)
        if origin.pin is not None:
            return replace(origin, version=origin.pin)
        return replace(origin, version=version, pin=version if pins and not origin.loose else None)

    def continued(
        self, definition: Workflow[..., Any], origin: Origin, pin: str | None, input: str
    ) -> tuple[Workflow[..., Any], Origin]:
        """Code and origin of an execution that goes on with a new input: the current version
        has it from here on, unless that does not take the input. `pin` is what the log says."""
        current = self.current.workflows.get(definition.name)
        version = self.current.version
        if current is None or (pin is not None and version is None):
            return definition, origin
        if current is not definition:
            try:
                current.codec.arguments(input)
            except PayloadError:
                return definition, origin
        pins = version is not None and (pin is not None or current.pinned)
        return current, replace(origin, version=version, pin=version if pins else None)

    # What there is ----------------------------------------------------------------------------

    def runs_on(self, live: Live) -> str | None:
        """The version of the code that an open execution has, or waits for."""
        return live.origin.pin or self.current.version

    def views(self, executions: Iterable[Live]) -> list[VersionView]:
        """Every version that is loaded or waited for, the current one first; `executions` are
        the open ones."""
        counts: dict[str | None, list[int]] = {self.current.version: [0, 0]}
        counts |= {version: [0, 0] for version in self.kept}
        for live in executions:
            if not live.workflow.startswith(RESERVED):
                count = counts.setdefault(self.runs_on(live), [0, 0])
                count[0] += 1
                count[1] += live.pin is not None
        current = self.current.version
        return [
            VersionView(version, version == current, version == current or version in self.kept, *n)
            for version, n in counts.items()
        ]


def with_pin(origin: Origin, events: Iterable[Event]) -> Origin:
    """An origin with what was done about its pin since, by all events since it last began: those
    that a retry has made void, too."""
    for event in events:
        if event.kind is Kind.PINNED:
            origin = replace(origin, pin=json.loads(str(event.payload)))
        elif event.kind is Kind.UNPINNED:
            origin = replace(origin, pin=None)
    return origin
