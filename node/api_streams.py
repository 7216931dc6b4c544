"""The engine's HTTP API for streams: what an execution publishes, followed from an offset."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from node.api_answers import Answers, Unproven
from node.api_models import Ack, StreamItem, StreamList, StreamPage, StreamQuery, StreamShown
from node.api_route import Content, Routes, operation
from node.engine.engine import Engine
from node.engine.errors import EngineError, UnknownExecution, UnknownStream
from node.engine.events import Status
from node.engine.stream import Item
from node.engine.stream_readers import Page, StreamReader

#: Seconds between two signs of life on a stream of server-sent events.
HEARTBEAT: Final = 15.0
#: Values that are sent as one piece.
PIECE: Final = 500
_ONE: Final = "/executions/{id}/streams"
_EVENTS: Final = Content(
    "text/event-stream",
    "For who accepts it: an event for each value, with its offset as id, from Last-Event-ID or "
    "`offset` on; at last `end`, or `trouble`, after which a reader may come again.",
)


class StreamsApi(Routes):
    """Routes for streams."""

    def __init__(self, engine: Engine, answers: Answers) -> None:
        self.engine = engine
        self.answers = answers

    @operation("GET", _ONE, raises=(UnknownExecution,))
    async def list_streams(self, id: str) -> StreamList:
        """The names of an execution's streams, and how long they are."""
        views = self.engine.streams(id)
        return StreamList(items=[StreamShown(**asdict(view)) for view in views])

    @operation(
        "GET",
        f"{_ONE}/{{name}}",
        raises=(UnknownExecution, UnknownStream),
        proves=True,
        content=(_EVENTS,),
        headers={"Last-Event-ID": "With text/event-stream: the last offset that was received."},
    )
    async def read_stream(
        self, id: str, name: str, query: StreamQuery, request: Request
    ) -> StreamPage | Response:
        """A page of a stream's values; or all of them as they come, for who accepts
        text/event-stream."""
        if "text/event-stream" in request.headers.get("accept", ""):
            last = request.headers.get("last-event-id", "")
            offset = int(last) + 1 if last.isdecimal() else query.offset
            self.engine.execution(id)
            events = self._events(id, name, offset, query.ack)
            headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
            return StreamingResponse(events, media_type="text/event-stream", headers=headers)
        with self.engine.follow(id, name, query.offset) as reader:
            page, standing = await self._page(reader, query.limit, query.wait, query.ack)
        items = [StreamItem(**_item(item)) for item in page.items]
        return StreamPage(items=items, next=page.next, ended=page.ended, **standing)

    async def _page(
        self, reader: StreamReader, limit: int, wait: float, ack: Ack
    ) -> tuple[Page, dict[str, Any]]:
        """Values that may be shown. Raises Unproven."""
        page = await reader.read(limit, wait)
        durable = ack == "durable" and self.engine.can_prove
        if durable and (page.items or page.ended):
            await self.answers.prove(page.sequence)
        shown = durable and bool(page.items or page.ended)
        return page, self.answers.standing(page.sequence, durable=shown)

    async def _events(self, id: str, name: str, offset: int, ack: Ack) -> AsyncIterator[str]:
        with self.engine.follow(id, name, offset) as reader:
            try:
                while True:
                    page, _ = await self._page(reader, PIECE, HEARTBEAT, ack)
                    text = "".join(_event(item) for item in page.items)
                    if page.ended:
                        status = self._status(id, reader)
                        yield f"{text}event: end\ndata: {json.dumps({'status': status})}\n\n"
                        return
                    yield text or ": still here\n\n"
            except (EngineError, Unproven) as error:
                # What was sent stands; the reader comes again with the last offset it has.
                about = {"type": type(error).__name__, "message": str(error)}
                yield f"event: trouble\ndata: {json.dumps(about)}\n\n"

    def _status(self, id: str, reader: StreamReader) -> Status:
        try:
            return self.engine.execution(id).status
        except UnknownExecution:
            # It was removed while the last of it was read.
            return reader.status


def _item(item: Item) -> dict[str, Any]:
    body: dict[str, Any] = {"offset": item.offset, "value": item.value}
    if item.source is not None:
        body["source"] = item.source
    if item.begins:
        body["begins"] = True
    if item.discards_from is not None:
        body["discards_from"] = item.discards_from
    return body


def _event(item: Item) -> str:
    text = json.dumps(_item(item), separators=(",", ":"))
    return f"id: {item.offset}\ndata: {text}\n\n"
