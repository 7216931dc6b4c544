"""A network cable that can be cut: a TCP forwarder on loopback, for trying partitions."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from types import TracebackType
from typing import Literal, Self

HOST = "127.0.0.1"
_CHUNK = 65536

Cut = Literal["hang", "refuse"]


class Link:
    """Forwards connections to ``host:port`` from an address of its own, until it is cut.

    An async context manager; everything runs in the event loop that started it.
    """

    def __init__(self, name: str, host: str, port: int) -> None:
        self.name = name
        self.target = (host, port)
        self.bytes_out = 0
        """Bytes delivered to the target."""
        self.bytes_in = 0
        """Bytes delivered to the clients."""
        self._port = 0
        self._server: asyncio.Server | None = None
        self._placeholder: socket.socket | None = None
        self._passable = asyncio.Event()
        self._mode: Cut | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def address(self) -> tuple[str, int]:
        """Where to connect instead of the target."""
        return (HOST, self._port)

    @property
    def url(self) -> str:
        """The same as the base of an HTTP URL."""
        return f"http://{HOST}:{self._port}"

    @property
    def is_cut(self) -> bool:
        return self._mode is not None

    @property
    def connections(self) -> int:
        """How many connections are open, the hanging ones included."""
        return len(self._tasks)

    async def start(self) -> None:
        """Begin to forward, from a free port that stays the same for the link's life."""
        self._passable.set()
        await self._listen()

    async def close(self) -> None:
        """Stop forwarding and reset every connection."""
        self._mode = None
        await self._stop_listening()
        if self._placeholder:
            self._placeholder.close()
            self._placeholder = None
        await self._reset_connections()

    async def cut(self, mode: Cut = "hang") -> None:
        """Let nothing pass any more.

        With "hang" packets are lost: open connections stay open and silent, new ones are accepted
        and stay silent too. With "refuse" the other side is gone: open connections are reset, new
        ones refused.
        """
        if self._mode == mode:
            return
        if self._mode is not None:
            await self.heal()
        self._mode = mode
        self._passable.clear()
        if mode == "refuse":
            # Bound and not listening: connections are refused, and nobody else gets the port.
            self._placeholder = _bind(self._port)
            await self._stop_listening()
            await self._reset_connections()

    async def heal(self) -> None:
        """Let everything pass again; the connections of the time of the cut are reset."""
        if self._mode is None:
            return
        await self._reset_connections()
        self._mode = None
        self._passable.set()
        if self._placeholder:
            await self._listen()
            self._placeholder.close()
            self._placeholder = None

    async def _listen(self) -> None:
        listener = _bind(self._port)
        self._port = listener.getsockname()[1]
        self._server = await asyncio.start_server(self._accept, sock=listener)

    async def _stop_listening(self) -> None:
        if self._server:
            self._server.close()
            self._server = None

    async def _reset_connections(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # asyncio 3.11 reports a cancelled handler as a failed callback, with a traceback.
        with contextlib.suppress(asyncio.CancelledError):
            await self._forward(reader, writer)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        writers = [writer]
        try:
            await self._passable.wait()
            target_reader, target_writer = await asyncio.open_connection(*self.target)
            writers.append(target_writer)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, target_writer, outward=True))
                group.create_task(self._pump(target_reader, writer, outward=False))
            for each in writers:  # both sides have said all they had to say
                each.close()
            writers.clear()
        except* OSError:
            pass  # one side has broken the connection; the other hears of it in the same way
        finally:
            self._tasks.discard(task)
            for each in writers:
                _reset(each)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, outward: bool
    ) -> None:
        while True:
            data = await reader.read(_CHUNK)
            # What arrives after the cut waits here, until the connection is reset.
            await self._passable.wait()
            if not data:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            writer.write(data)
            await writer.drain()
            if outward:
                self.bytes_out += len(data)
            else:
                self.bytes_in += len(data)


def _bind(port: int) -> socket.socket:
    # Named as TCP, so that asyncio turns Nagle's algorithm off on what it accepts.
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # So that a listening socket and a silent one can follow each other on one port.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind((HOST, port))
    bound.setblocking(False)
    return bound


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection at once with a reset; what was not delivered is lost."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
