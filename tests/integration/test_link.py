"""The cable: what goes in comes out, and when it is cut, nothing does."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from fleet.link import HOST, Link

SILENCE = 0.1  # seconds without a byte that count as silence; only ever waited for, never measured


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[tuple[str, int]]:
    """A server that sends back what it gets, until its client has said all."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[:2]
    finally:
        server.close()


@contextlib.asynccontextmanager
async def linked() -> AsyncIterator[Link]:
    async with echo() as (host, port), Link("test", host, port) as link:
        yield link


class Client:
    """One connection through the link."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, link: Link) -> Client:
        return cls(*await asyncio.open_connection(*link.address))

    async def ask(self, data: bytes) -> bytes:
        self.writer.write(data)
        return await asyncio.wait_for(self.reader.readexactly(len(data)), 30)

    async def is_silent(self) -> bool:
        try:
            await asyncio.wait_for(self.reader.read(1), SILENCE)
        except TimeoutError:
            return True
        return False

    async def is_reset(self) -> bool:
        try:
            await asyncio.wait_for(self.reader.read(1), 30)
        except ConnectionError:
            return True
        return False


def run(test: Callable[[Link], Awaitable[None]]) -> None:
    async def inside() -> None:
        async with linked() as link:
            await test(link)

    asyncio.run(inside())


def test_what_goes_in_comes_out_whole() -> None:
    async def test(link: Link) -> None:
        reader, writer = await asyncio.open_connection(*link.address)
        data = b"".join(hashlib.sha256(bytes([n % 256])).digest() for n in range(100_000))

        async def send() -> None:
            writer.write(data)
            await writer.drain()
            writer.write_eof()

        _, back = await asyncio.gather(send(), asyncio.wait_for(reader.read(), 60))
        assert back == data
        assert (link.bytes_out, link.bytes_in) == (len(data), len(data))

    run(test)


def test_connections_are_counted_while_they_are_open() -> None:
    async def test(link: Link) -> None:
        clients = [await Client.to(link) for _ in range(3)]
        for client in clients:
            assert await client.ask(b"hello") == b"hello"
        assert link.connections == 3
        assert link.url == f"http://{HOST}:{link.address[1]}"

    run(test)


def test_a_cut_is_silent_and_healing_resets_what_hung() -> None:
    async def test(link: Link) -> None:
        old = await Client.to(link)
        assert await old.ask(b"before") == b"before"

        await link.cut()
        assert [link.is_cut] == [True]
        passed = link.bytes_out, link.bytes_in
        old.writer.write(b"lost")
        new = await Client.to(link)  # accepted, as by a router that drops what follows
        new.writer.write(b"lost too")
        assert await old.is_silent()
        assert await new.is_silent()
        assert (link.bytes_out, link.bytes_in) == passed

        await link.heal()
        assert [link.is_cut] == [False]
        assert await old.is_reset()
        assert await new.is_reset()
        assert await (await Client.to(link)).ask(b"after") == b"after"

    run(test)


def test_without_the_cut_the_silence_would_be_noticed() -> None:
    """The broken twin of the test above: it fails to be silent."""

    async def test(link: Link) -> None:
        client = await Client.to(link)
        client.writer.write(b"heard")
        assert not await client.is_silent()

    run(test)


def test_the_answer_that_was_on_its_way_is_held_back_too() -> None:
    async def inside() -> None:
        go = asyncio.Event()

        async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            await go.wait()
            writer.write(b"answer")
            with contextlib.suppress(ConnectionError):
                await writer.drain()

        server = await asyncio.start_server(late, HOST, 0)
        async with Link("late", *server.sockets[0].getsockname()[:2]) as link:
            client = await Client.to(link)
            client.writer.write(b"?")
            while link.bytes_out == 0:
                await asyncio.sleep(0)
            await link.cut()
            go.set()
            assert await client.is_silent()
            assert link.bytes_in == 0
        server.close()

    asyncio.run(inside())


def test_refusing_resets_and_refuses_until_it_is_healed_on_the_same_port() -> None:
    async def test(link: Link) -> None:
        address = link.address
        old = await Client.to(link)
        assert await old.ask(b"before") == b"before"

        await link.cut("refuse")
        assert await old.is_reset()
        with pytest.raises(ConnectionRefusedError):
            await Client.to(link)

        await link.heal()
        assert link.address == address
        assert await (await Client.to(link)).ask(b"after") == b"after"

    run(test)


def test_the_way_of_a_cut_can_change_and_repeats_do_nothing() -> None:
    async def test(link: Link) -> None:
        await link.heal()
        await link.cut("refuse")
        await link.cut("refuse")
        with pytest.raises(ConnectionRefusedError):
            await Client.to(link)
        await link.cut("hang")
        assert await (await Client.to(link)).is_silent()
        await link.heal()
        await link.heal()
        assert await (await Client.to(link)).ask(b"after") == b"after"

    run(test)


def test_a_target_that_is_away_resets_its_client_and_not_the_link() -> None:
    async def inside() -> None:
        async with echo() as (host, port):
            pass  # it listens no more
        async with Link("away", host, port) as link:
            assert await (await Client.to(link)).is_reset()
            async with asyncio.timeout(30):
                while link.connections:
                    await asyncio.sleep(0)

    asyncio.run(inside())


def test_closing_leaves_nothing_open() -> None:
    async def inside() -> None:
        async with linked() as link:
            client = await Client.to(link)
            assert await client.ask(b"x") == b"x"
            await link.cut()
        assert await client.is_reset()
        assert link.connections == 0
        with pytest.raises(ConnectionRefusedError):
            await Client.to(link)

    asyncio.run(inside())
