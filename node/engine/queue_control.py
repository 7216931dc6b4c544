"""What an operator does to queues, and what there is to see of them.

Whether a queue is paused is in the log as whether its keeper is: an execution of the engine's own
that does nothing else, and is started when the queue is paused for the first time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from node.engine.definition import Workflow
from node.engine.namespace import workflow
from node.engine.queues import KEEPER, Queues, QueueView, keeper_of

if TYPE_CHECKING:
    from node.engine.builtins import Operations


@workflow(name=KEEPER)
async def _keeper(queue: str) -> None:
    """Its queue is paused as long as it is."""
    await workflow.receive("end")


def keepers(operations: Operations) -> Iterable[Workflow[..., Any]]:
    """The workflow that keeps whether a queue is paused."""
    return [_keeper]


class QueueControl:
    """The queues of one engine. Every method with a name raises UnknownQueue."""

    def __init__(self, operations: Operations, queues: Queues) -> None:
        self._operations = operations
        self._queues = queues

    def list(self) -> list[QueueView]:
        """Every queue that is declared, or that somebody waits in, by name."""
        return self._queues.views()

    def show(self, name: str) -> QueueView:
        """One of them."""
        return self._queues.view(name)

    async def pause(self, name: str) -> bool:
        """Let nothing of a queue go; in the log when this returns. What runs goes on. False when
        it is paused already."""
        self._queues.view(name)
        id = keeper_of(name)
        await self._operations.start(KEEPER, {"queue": name}, id=id, system=True)
        return await self._operations.control.pause(id)

    async def resume(self, name: str) -> bool:
        """Go on with a queue; False when it is not paused."""
        if not self._queues.view(name).paused:
            return False
        return await self._operations.control.resume(keeper_of(name))
