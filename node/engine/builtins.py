"""The engine's own workflows, which run beside the application's.

Each maker gives the workflows and activities of one feature; what their activities may do is passed
in. They are replayed like any code: a change to one of the workflows needs `patched`. An engine
makes them anew, and nothing of theirs is started unless the feature is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

from node.engine.application import Application
from node.engine.control import Control
from node.engine.definition import Activity, Workflow
from node.engine.events import Reuse
from node.engine.queue_control import keepers
from node.engine.retention_control import records
from node.engine.schedule_control import schedule_keepers
from node.engine.views import ExecutionView, Started


class Operations(Protocol):
    """What a built-in's activities may ask of the engine that runs them: what `Engine` has under
    these names."""

    control: Control

    async def start(
        self,
        workflow: str,
        input: Mapping[str, object],
        *,
        id: str | None = None,
        reuse: Reuse = Reuse.EXISTING,
        system: bool = False,
    ) -> Started:
        """Start an execution of the application, or of the engine's own workflows."""

    def execution(self, id: str) -> ExecutionView:
        """An execution as it is now."""


Maker = Callable[[Operations], Iterable[Workflow[..., Any] | Activity[..., Any]]]

MAKERS: Final[list[Maker]] = [keepers, schedule_keepers, records]


def extended(application: Application, operations: Operations) -> Application:
    """The application together with the engine's own workflows.

    To replay without an engine, `operations` may be anything: a replay runs no activity.
    """
    workflows, activities = dict(application.workflows), dict(application.activities)
    for make in MAKERS:
        for thing in make(operations):
            if isinstance(thing, Workflow):
                workflows[thing.name] = thing
            else:
                activities[thing.name] = thing
    return replace(application, workflows=workflows, activities=activities)
