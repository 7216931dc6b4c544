"""A real object store behind a proxy that counts, delays, refuses, loses and falsifies.

Real clients speak to it (boto3, Litestream); what they send is passed on as it came, so their
signatures hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Literal, Self
from urllib.parse import parse_qs, unquote, urlsplit

import h11
import httpcore

from backup.settings import StoreSettings

Operation = Literal["get", "put", "list", "delete", "head", "other"]
_LONGEST_BODY: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asked for. `key` is what follows the bucket's name, for a list its prefix."""

    operation: Operation
    key: str
    size: int
    """Bytes of its body."""


@dataclass(frozen=True, slots=True)
class Refused:
    """It is answered with an error, and the store never hears of it."""

    status: int
    code: str


@dataclass(frozen=True, slots=True)
class Late:
    """It is passed on after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Hung:
    """It is never answered and never passed on."""


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection is reset: `after` the store has done what was asked, or before."""

    after: bool = False


@dataclass(frozen=True, slots=True)
class Changed:
    """The answer's body is another one."""

    change: Callable[[bytes], bytes]


Fault = Refused | Late | Hung | Reset | Changed
Policy = Callable[[Request], Fault | None]


def healthy(_request: Request) -> None:
    """The policy without a fault."""


@dataclass
class FaultyStore:
    """The proxy, as an async context manager. Set `policy` at any time; it holds for the requests
    that come from then on."""

    near: StoreSettings
    policy: Policy = healthy
    requests: Counter[Operation] = field(default_factory=Counter)
    """How many came, the refused ones included."""
    bytes_in: int = 0
    """Bytes of the bodies that were sent."""

    async def __aenter__(self) -> Self:
        self._pool = httpcore.AsyncConnectionPool(max_connections=64)
        self._clients: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for client in list(self._clients):
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        await self._pool.aclose()

    @property
    def settings(self) -> StoreSettings:
        """The way to the store through this proxy."""
        port = self._server.sockets[0].getsockname()[1]
        return self.near.model_copy(update={"endpoint": f"http://127.0.0.1:{port}"})

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = asyncio.create_task(self._serve(reader, writer))
        self._clients.add(client)
        client.add_done_callback(self._clients.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        with contextlib.suppress(ConnectionError, h11.RemoteProtocolError, httpcore.NetworkError):
            while await self._one(connection, reader, writer):
                connection.start_next_cycle()
        writer.close()

    async def _one(
        self,
        connection: h11.Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Serve one request; whether another may follow on this connection."""
        head: h11.Request | None = None
        body = bytearray()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                if connection.they_are_waiting_for_100_continue:
                    go = h11.InformationalResponse(status_code=100, headers=[])
                    writer.write(connection.send(go) or b"")
                data = await reader.read(1 << 18)
                if not data and head is None:
                    return False
                connection.receive_data(data)
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
                assert len(body) <= _LONGEST_BODY
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return False
        assert head is not None
        request = _understood(head, len(body))
        self.requests[request.operation] += 1
        self.bytes_in += len(body)
        fault = self.policy(request)
        if isinstance(fault, Hung):
            await asyncio.Event().wait()
        if isinstance(fault, Late):
            await asyncio.sleep(fault.seconds)
        if isinstance(fault, Reset) and not fault.after:
            _reset(writer)
            return False
        if isinstance(fault, Refused):
            said = f"<Error><Code>{fault.code}</Code><Message>a fault</Message></Error>"
            answer = httpcore.Response(
                fault.status, headers=[(b"content-type", b"application/xml")], content=said.encode()
            )
        else:
            answer = await self._passed_on(head, bytes(body))
        if isinstance(fault, Reset):
            _reset(writer)
            return False
        content = await answer.aread()
        if isinstance(fault, Changed):
            content = fault.change(content)
        await self._answer(connection, writer, head, answer, content)
        return connection.our_state is h11.DONE and connection.their_state is h11.DONE

    async def _passed_on(self, head: h11.Request, body: bytes) -> httpcore.Response:
        near = urlsplit(self.near.endpoint)
        url = httpcore.URL(
            scheme=near.scheme.encode(),
            host=str(near.hostname).encode(),
            port=near.port,
            target=head.target,
        )
        # As they came, the host too: the signature covers them.
        dropped = (b"connection", b"expect", b"transfer-encoding", b"content-length")
        headers = [(name, value) for name, value in head.headers if name not in dropped]
        if body or head.method in (b"PUT", b"POST"):
            headers.append((b"content-length", str(len(body)).encode()))
        return await self._pool.request(head.method, url, headers=headers, content=body or None)

    @staticmethod
    async def _answer(
        connection: h11.Connection,
        writer: asyncio.StreamWriter,
        head: h11.Request,
        answer: httpcore.Response,
        content: bytes,
    ) -> None:
        dropped = {b"transfer-encoding", b"content-length", b"connection"}
        if head.method == b"HEAD":
            dropped.remove(b"content-length")
        headers = [(name, value) for name, value in answer.headers if name.lower() not in dropped]
        if head.method != b"HEAD" and answer.status not in (204, 304):
            headers.append((b"content-length", str(len(content)).encode()))
        parts = [connection.send(h11.Response(status_code=answer.status, headers=headers))]
        if content and head.method != b"HEAD":
            parts.append(connection.send(h11.Data(data=content)))
        parts.append(connection.send(h11.EndOfMessage()))
        writer.write(b"".join(part or b"" for part in parts))
        await writer.drain()


def _understood(head: h11.Request, size: int) -> Request:
    parts = urlsplit(head.target.decode("ascii"))
    _, _, key = unquote(parts.path).lstrip("/").partition("/")
    query = parse_qs(parts.query, keep_blank_values=True)
    operation: Operation = "other"
    if head.method == b"GET" and not key:
        operation, key = "list", query.get("prefix", [""])[0]
    elif head.method == b"POST" and "delete" in query:
        operation = "delete"
    elif head.method in (b"GET", b"PUT", b"DELETE", b"HEAD"):
        operation = head.method.decode("ascii").lower()  # type: ignore[assignment]
    return Request(operation, key, size)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST, as a machine does that has forgotten the connection."""
    own = writer.get_extra_info("socket")
    own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def cut_short(keep: int) -> Callable[[bytes], bytes]:
    """A change of a list's answer: only its first `keep` entries, and it says that this is all."""

    def change(body: bytes) -> bytes:
        entries = re.findall(rb"<Contents>.*?</Contents>", body, re.DOTALL)
        for entry in entries[keep:]:
            body = body.replace(entry, b"", 1)
        return re.sub(
            rb"<IsTruncated>true</IsTruncated>", b"<IsTruncated>false</IsTruncated>", body
        )

    return change
