"""The engine's HTTP API for queues."""

from __future__ import annotations

from dataclasses import asdict

from node.api_answers import Answers
from node.api_models import ControlRequest
from node.api_models_application import QueueChanged, QueueList, QueueShown
from node.api_route import Routes, operation
from node.engine.engine import Engine
from node.engine.errors import UnknownQueue


class QueuesApi(Routes):
    """Routes for queues."""

    def __init__(self, engine: Engine, answers: Answers) -> None:
        self.engine = engine
        self.answers = answers

    @operation("GET", "/queues")
    async def list_queues(self) -> QueueList:
        """Every queue that the application declares, or that somebody waits in."""
        return QueueList(items=[QueueShown(**asdict(one)) for one in self.engine.queues.list()])

    @operation("GET", "/queues/{name}", raises=(UnknownQueue,))
    async def show_queue(self, name: str) -> QueueShown:
        """How one queue stands."""
        return QueueShown(**asdict(self.engine.queues.show(name)))

    @operation("POST", "/queues/{name}/pause", raises=(UnknownQueue,), proves=True)
    async def pause_queue(self, name: str, body: ControlRequest) -> QueueChanged:
        """Let nothing of a queue go until it is resumed; what runs goes on."""
        self.answers.admit(body.ack, "it")
        return await self._done(name, await self.engine.queues.pause(name), body)

    @operation("POST", "/queues/{name}/resume", raises=(UnknownQueue,), proves=True)
    async def resume_queue(self, name: str, body: ControlRequest) -> QueueChanged:
        """Go on with a queue."""
        self.answers.admit(body.ack, "it")
        return await self._done(name, await self.engine.queues.resume(name), body)

    async def _done(self, name: str, changed: bool, body: ControlRequest) -> QueueChanged:
        standing = await self.answers.proven(self.engine.sequence, body.ack)
        return QueueChanged(name=name, changed=changed, **standing)
