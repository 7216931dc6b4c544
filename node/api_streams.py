"""The engine's HTTP API for streams: what an execution publishes, followed from an offset."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from node.api_answers import Ack, Answers, Unproven, query_of
from node.engine.engine import Engine
from node.engine.errors import EngineError, UnknownExecution
from node.engine.events import Status
from node.engine.stream import Item
from node.engine.stream_readers import Page, StreamReader

#: Seconds between two signs of life on a stream of server-sent events.
HEARTBEAT: Final = 15.0
#: Values that are sent as one piece.
PIECE: Final = 500


class StreamQuery(BaseModel):
    """What GET /executions/{id}/streams/{name} takes. `wait` in seconds."""

    model_config = ConfigDict(extra="forbid")

    offset: Annotated[int, Field(ge=0)] = 0
    limit: Annotated[int, Field(ge=1, le=10_000)] = 1000
    wait: Annotated[float, Field(ge=0, le=60)] = 0
    ack: Ack = "durable"


class StreamsApi:
    """Routes for streams."""

    def __init__(self, engine: Engine, answers: Answers) -> None:
        self.engine = engine
        self.answers = answers

    def routes(self) -> list[Route]:
        """Their paths begin with /executions/{id}/streams."""
        one = "/executions/{id}/streams"
        return [
            Route(one, self.listed, methods=["GET"]),
            Route(one + "/{name}", self.read, methods=["GET"]),
        ]

    async def listed(self, request: Request) -> Response:
        """The names of an execution's streams, and how long they are."""
        views = self.engine.streams(request.path_params["id"])
        return JSONResponse({"items": [asdict(view) for view in views]})

    async def read(self, request: Request) -> Response:
        """A page of values; or all of them as they come, for who accepts text/event-stream."""
        query = query_of(StreamQuery, request)
        id, name = request.path_params["id"], request.path_params["name"]
        if "text/event-stream" in request.headers.get("accept", ""):
            last = request.headers.get("last-event-id", "")
            offset = int(last) + 1 if last.isdecimal() else query.offset
            self.engine.execution(id)
            events = self._events(id, name, offset, query.ack)
            headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
            return StreamingResponse(events, media_type="text/event-stream", headers=headers)
        with self.engine.follow(id, name, query.offset) as reader:
            page, standing = await self._page(reader, query.limit, query.wait, query.ack)
        items = [_item(item) for item in page.items]
        body = {"items": items, "next": page.next, "ended": page.ended, **standing}
        return JSONResponse(body)

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
