"""Lines of JSON over a unix socket: how engine, supervisor and agent talk to each other.

A request carries an id and an ``op``; its answer carries the id and ``ok`` or ``error``. A message
without id is a notice and gets no answer. The engine asks for barriers thousands of times a
second, which is why this is not HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

Message = dict[str, Any]
Handler = Callable[[str, Message], Awaitable[Message]]

LINE_LIMIT = 4 * 1024 * 1024
"""Bytes of the longest message."""


class WireError(Exception):
    """The other side is gone, or answered with an error."""


class Server:
    """Answers requests on a unix socket with ``handler(op, message)``.

    Several requests of one connection are handled at once. An exception of the handler becomes an
    error answer.
    """

    def __init__(self, path: Path, handler: Handler):
        self._path = path
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen; the socket is reachable for this user only (its folder's rights decide)."""
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(
            self._serve, path=str(self._path), limit=LINE_LIMIT
        )

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.close()
        for task in list(self._tasks):
            task.cancel()
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while line := await reader.readline():
                task = asyncio.create_task(self._answer(json.loads(line), writer))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        except (ConnectionError, ValueError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, message: Message, writer: asyncio.StreamWriter) -> None:
        number = message.get("id")
        try:
            answer: Message = {"ok": await self._handler(str(message.get("op", "")), message)}
        except asyncio.CancelledError:
            raise
        except Exception as error:  # whatever it is, the other side must hear of it
            answer = {"error": f"{type(error).__name__}: {error}"}
        if number is None:
            return
        with contextlib.suppress(ConnectionError, RuntimeError):
            writer.write(_line({"id": number, **answer}))
            await writer.drain()


class Client:
    """One connection to a `Server`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._reader = reader
        self._writer = writer
        self._number = 0
        self._pending: dict[int, asyncio.Future[Message]] = {}
        self._listener = asyncio.create_task(self._listen())
        self.lost = asyncio.Event()
        """Set once the connection has ended."""

    @classmethod
    async def connect(cls, path: Path) -> Client:
        """Raises `WireError` when nobody listens there."""
        try:
            reader, writer = await asyncio.open_unix_connection(str(path), limit=LINE_LIMIT)
        except OSError as error:
            raise WireError(f"{path} does not answer: {error}") from error
        return cls(reader, writer)

    async def call(self, op: str, /, **fields: Any) -> Message:
        """Send a request and wait for its answer, without a time limit of its own.

        Raises:
            WireError: the connection ended first, or the answer is an error.
        """
        if self.lost.is_set():
            raise WireError("the connection has ended")
        self._number += 1
        number = self._number
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._pending[number] = future
        try:
            self._writer.write(_line({**fields, "id": number, "op": op}))
            answer = await future
        except (ConnectionError, RuntimeError) as error:
            raise WireError(f"the connection has ended: {error}") from error
        finally:
            self._pending.pop(number, None)
        if "error" in answer:
            raise WireError(str(answer["error"]))
        result: Message = answer["ok"]
        return result

    def notify(self, op: str, /, **fields: Any) -> None:
        """Send a notice; lost without a word if the connection has ended."""
        if not self.lost.is_set():
            with contextlib.suppress(ConnectionError, RuntimeError):
                self._writer.write(_line({**fields, "op": op}))

    async def close(self) -> None:
        self._listener.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._listener
        self._writer.close()

    async def _listen(self) -> None:
        try:
            while line := await self._reader.readline():
                answer = json.loads(line)
                future = self._pending.get(answer.get("id"))
                if future is not None and not future.done():
                    future.set_result(answer)
        except (ConnectionError, ValueError):
            pass
        finally:
            self.lost.set()
            for future in self._pending.values():
                if not future.done():
                    future.set_exception(WireError("the connection has ended"))


def _line(message: Message) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"
