"""The engine's HTTP API for doing something to every execution that a filter finds."""

from __future__ import annotations

import asyncio
from typing import Any

from node.api_answers import Answers, status_of, type_of
from node.api_executions import READ_ERRORS, selection_of
from node.api_models import ErrorBody
from node.api_models_finding import BulkDone, BulkItem, BulkRequest
from node.api_route import Routes, operation
from node.engine.engine import Engine
from node.engine.errors import EngineError, EngineStopped, PayloadTooLarge
from node.engine.selection import Place
from node.engine.views import ExecutionView


class BulkApi(Routes):
    """The route for whole sets of executions."""

    def __init__(self, engine: Engine, answers: Answers) -> None:
        self.engine = engine
        self.answers = answers

    @operation(
        "POST",
        "/bulk",
        raises=(*READ_ERRORS, PayloadTooLarge),
        proves=True,
        example={"action": "retry", "filter": {"status": ["failed"], "workflow": ["greet"]}},
    )
    async def do_in_bulk(self, body: BulkRequest) -> BulkDone:
        """Cancel, terminate, pause, resume, retry or signal every execution that a filter finds: a
        batch at a time, the oldest first, each once. Ask with `after` for the next batch until
        `next` is null. What cannot be done to one says so in its `error`, and the others go on.
        Repeating a batch does no harm: what is done is not done twice, a signal's with a `key`."""
        if not body.dry_run:
            self.answers.admit(body.ack, "it")
        after = body.after
        if after is not None:
            Place.read(after)
        views, following = await self.engine.find(
            selection_of(body.filter), after=after, limit=body.limit
        )
        if body.action == "retry":
            # One may try its children again, which are then not there to be tried.
            items = [await self._item(body, view) for view in views]
        else:
            # Together, so that they share commits.
            items = await asyncio.gather(*(self._item(body, view) for view in views))
        if body.dry_run:
            standing = self.answers.standing(self.engine.sequence)
        else:
            standing = await self.answers.proven(self.engine.sequence, body.ack)
        return BulkDone(items=items, next=following, **standing)

    async def _item(self, body: BulkRequest, view: ExecutionView) -> BulkItem:
        about: dict[str, Any] = {"id": view.id, "workflow": view.workflow}
        if body.dry_run:
            return BulkItem(**about, status=view.status, changed=False)
        try:
            changed = await self._do(body, view.id)
        except EngineStopped:
            raise
        except EngineError as error:
            if status_of(type(error)) >= 500:
                raise
            why = ErrorBody(type=type_of(type(error)), message=str(error), hint=error.hint)
            return BulkItem(**about, status=view.status, changed=False, error=why)
        return BulkItem(**about, status=self.engine.execution(view.id).status, changed=changed)

    async def _do(self, body: BulkRequest, id: str) -> bool:
        control = self.engine.control
        if body.action == "cancel":
            return await control.cancel(id, body.reason)
        if body.action == "terminate":
            return await control.terminate(id, body.reason)
        if body.action == "pause":
            return await control.pause(id)
        if body.action == "resume":
            return await control.resume(id)
        if body.action == "retry":
            await control.retry(id)
            return True
        sent = await self.engine.signal(id, str(body.signal), body.value, key=body.key)
        return sent.arrived
