"""The gateway between a client and servers: what is held, limited, sent, and never twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from backup.limits import RequestLimits
from fleet.gateway.gate import KEEP, Gate
from fleet.gateway.holding import Standing, Way
from fleet.proxy import EPOCH_HEADER, PASSED_HEADER, unavailable
from fleet.serving import HttpServer
from fleet.settings import GatewaySettings

METHODS = ["GET", "POST", "PUT", "DELETE"]
SLOW = "slow"


@dataclass
class Node:
    """A server in a tenant's place, that counts what it gets."""

    epoch: int
    url: str = ""
    got: Counter[str] = field(default_factory=Counter)
    bodies: list[bytes] = field(default_factory=list)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    unsent: bool = False

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/{tenant}/{path:path}", self._answer, methods=METHODS)])

    async def _answer(self, request: Request) -> Response:
        path = request.path_params["path"]
        if self.unsent:
            return unavailable("not here any more", sent=False)
        self.got[path] += 1
        headers = {EPOCH_HEADER: str(self.epoch)}
        if path == "upload":
            async for chunk in request.stream():
                self.bodies.append(chunk)
            return JSONResponse({"bytes": sum(map(len, self.bodies))}, headers=headers)
        if path == "stream":
            return StreamingResponse(self._stream(), headers=headers)
        if path.startswith(SLOW):
            await self.go_on.wait()
        passed = PASSED_HEADER in request.headers
        return JSONResponse({"epoch": self.epoch, "passed": passed}, headers=headers)

    async def _stream(self) -> AsyncIterator[bytes]:
        yield b"data: 1\n\n"
        await self.go_on.wait()
        yield b"data: 2\n\n"


class World:
    """A gate, and where each tenant stands."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.standings: dict[str, Standing] = {}
        self.limits: dict[str, RequestLimits] = {}
        self.gate = Gate(settings, lambda name: self.standings[name])
        self.servers: list[HttpServer] = []

    def app(self) -> Starlette:
        async def gateway(request: Request) -> Response:
            tenant, path = request.path_params["tenant"], request.path_params["path"]
            more = {PASSED_HEADER: "1"}
            return await self.gate.pass_on(request, tenant, path, self.limits.get(tenant), more)

        return Starlette(routes=[Route("/{tenant}/{path:path}", gateway, methods=METHODS)])

    async def node(self, epoch: int) -> Node:
        node = Node(epoch)
        server = HttpServer(node.app(), "127.0.0.1", 0)
        await server.start()
        self.servers.append(server)
        node.url = server.url
        return node

    def serves(self, tenant: str, node: Node) -> None:
        way = Way(node.url, f"/{tenant}", node.epoch)
        self.standings[tenant] = Standing(way, node.epoch, coming=True)
        self.gate.look()

    def moves(self, tenant: str, epoch: int, coming: bool = True) -> None:
        self.standings[tenant] = Standing(None, epoch, coming=coming, why="it moves")
        self.gate.look()

    def count(self, tenant: str, metric: str, *labels: str) -> float:
        name = f"litefleet_gateway_{metric}"
        return sum(
            value
            for each, (whose, *rest), value in self.gate.samples()
            if each == name and whose == tenant and tuple(rest) == labels
        )

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running(settings: GatewaySettings) -> AsyncIterator[tuple[World, httpx.AsyncClient]]:
    world = World(settings)
    front = HttpServer(world.app(), "127.0.0.1", 0)
    await front.start()
    try:
        pool = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=front.url, timeout=60, limits=pool) as client:
            yield world, client
    finally:
        for server in [front, *world.servers]:
            await server.stop()


Scenario = Callable[[World, httpx.AsyncClient], Awaitable[None]]


def play(scenario: Scenario, **settings: object) -> None:
    async def whole() -> None:
        async with running(GatewaySettings.model_validate(settings)) as (world, client):
            await scenario(world, client)

    asyncio.run(whole())


def test_requests_are_held_while_a_tenant_moves_and_each_is_answered_once() -> None:
    async def scenario(world: World, client: httpx.AsyncClient) -> None:
        world.moves("t", 1)
        posts = [asyncio.create_task(client.post(f"/t/order-{n}")) for n in range(40)]
        await world.until(lambda: world.count("t", "held") == 40)
        node = await world.node(2)
        world.serves("t", node)
        answers = await asyncio.gather(*posts)
        assert [answer.status_code for answer in answers] == [200] * 40
        assert answers[0].json() == {"epoch": 2, "passed": True}
        assert set(node.got.values()) == {1}
        assert len(node.got) == 40
        assert world.count("t", "held") == world.count("t", "under_way") == 0
        assert world.count("t", "holds_total") == 40
        assert world.count("t", "requests_total", "passed") == 40

    play(scenario)


def test_holding_ends_in_time_and_says_that_nothing_was_sent() -> None:
    async def scenario(world: World, client: httpx.AsyncClient) -> None:
        world.moves("t", 1)
        answer = await client.post("/t/order")
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "2"
        assert answer.json()["outcome"] == "not_sent"
        assert answer.json()["error"]["message"] == "it moves"
        # Whoever asks can want to wait for less, and a tenant that will not come is not waited for.
        world.moves("t", 1, coming=False)
        assert (await client.post("/t/order")).headers["retry-after"] == "30"

    play(scenario, hold_seconds=0.2)


def test_whoever_asks_can_wait_for_less() -> None:
    async def scenario(world: World, client: httpx.AsyncClient) -> None:
        world.moves("t", 1)
        answer = await client.get("/t/order", headers={"Prefer": "respond-async, wait=0"})
        assert answer.status_code == 503
        assert world.count("t", "holds_total") == 0

    play(scenario, hold_seconds=600)


def test_a_node_that_is_not_there_any_more_is_tried_again_elsewhere() -> None:
    async def scenario(world: World, client: httpx.AsyncClient) -> None:
        old, new = await world.node(1), await world.node(2)
        await world.servers[0].stop()
        world.serves("t", old)
        refused = asyncio.create_task(client.post("/t/order"))
        await world.until(lambda: world.count("t", "held") == 1)
        world.serves("t", new)
        assert (await refused).json()["epoch"] == 2
        assert new.got["order"] == 1
        # The next gateway knows that no engine got it.
        new.unsent = True
        told = asyncio.create_task(client.post("/t/other"))
        await world.until(lambda: world.count("t", "held") == 1)
        new.unsent = False
        assert (await told).status_code == 200
        assert new.got["other"] == 1
        assert world.count("t", "resent_total") >= 2

    play(scenario)


def test_what_a_lost_node_may_have_got_is_sent_again_only_if_that_does_no_harm() -> None:
    async def scenario(world: World, client: httpx.AsyncClient) -> None:
        old, new = await world.node(1), await world.node(2)
        world.serves("t", old)
        key = {"Idempotency-Key": "k"}
        sent = {
            "get": client.get(f"/t/{SLOW}-get"),
            "post": client.post(f"/t/{SLOW}-post"),
            "keyed": client.post("/t/executions/slow/signals/s", headers=key),
        }
        tasks = {name: asyncio.create_task(one) for name, one in sent.items()}
        await world.until(lambda: old.got.total() == 3 or "executions/slow/signals/s" in old.got)
        await world.until(lambda: old.got[f"{SLOW}-get"] + old.got[f"{SLOW}-post"] == 2)
        keyed = await tasks["keyed"]  # no slow path of the node's, so it was answered
        assert keyed.status_code == 200
        new.go_on.set()
        world.moves("t", 2)
        post = await tasks["post"]
        assert (post.status_code, post.json()["outcome"]) == (503, "unknown")
        world.serves("t", new)
        assert (await tasks["get"]).json()["epoch"] == 2
        assert new.got == {f"{SLOW}-get": 1}

    play(scenario)


def test_an_answer_of_an_older_epoch_does_not_count() -> None:
    async def scenario(world: World, client: httpx.AsyncClient) -> None:
        old, new = await world.node(1), await world.node(3)
        world.standings["t"] = Standing(Way(old.url, "/t", 2), 2, coming=True)
        post = await client.post("/t/order")
        assert (post.status_code, post.json()["outcome"]) == (503, "unknown")
        get = asyncio.create_task(client.get("/t/look"))
        await world.until(lambda: old.got["look"] > 0)
        world.serves("t", new)
        assert (await get).json()["epoch"] == 3

    play(scenario)


def test_a_body_and_an_answer_go_through_as_they_come() -> None:
    async def scenario(world: World, client: httpx.AsyncClient) -> None:
        node = await world.node(1)
        world.serves("t", node)

        async def body() -> AsyncIterator[bytes]:
            yield b"a" * 1000
            # The node has the first part before the second is made.
            await world.until(lambda: sum(map(len, node.bodies)) == 1000)
            yield b"b" * 500_000

        answer = await client.post("/t/upload", content=body())
        assert answer.json() == {"bytes": 501_000}
        async with client.stream("GET", "/t/stream") as stream:
            parts = stream.aiter_bytes()
            assert await anext(parts) == b"data: 1\n\n"
            assert world.count("t", "under_way") == 1
            node.go_on.set()
            assert await anext(parts) == b"data: 2\n\n"
            assert [part async for part in parts] == []
        await world.until(lambda: world.count("t", "under_way") == 0)

    play(scenario)


def test_a_stream_of_a_node_that_lost_its_tenant_is_cut_off() -> None:
    async def scenario(world: World, client: httpx.AsyncClient) -> None:
        node = await world.node(1)
        world.serves("t", node)
        async with client.stream("GET", "/t/stream") as stream:
            parts = stream.aiter_bytes()
            assert await anext(parts) == b"data: 1\n\n"
            world.moves("t", 2)
            with pytest.raises(httpx.RemoteProtocolError):
                await anext(parts)
        await world.until(lambda: world.count("t", "under_way") == 0)

    play(scenario)


def test_who_goes_away_leaves_room_for_others() -> None:
    async def scenario(world: World, client: httpx.AsyncClient) -> None:
        world.moves("t", 1)
        gone = asyncio.create_task(client.get("/t/held"))
        await world.until(lambda: world.count("t", "held") == 1)
        gone.cancel()
        await world.until(lambda: world.count("t", "held") == 0)
        node = await world.node(1)
        world.serves("t", node)
        gone = asyncio.create_task(client.get(f"/t/{SLOW}"))
        await world.until(lambda: node.got[SLOW] == 1)
        gone.cancel()
        await world.until(lambda: world.count("t", "under_way") == 0)
        async with client.stream("GET", "/t/stream") as stream:
            await anext(stream.aiter_bytes())
        await world.until(lambda: world.count("t", "under_way") == 0)
        assert world.count("t", "requests_total", "gone") == 2

    play(scenario)


def test_each_limit_is_kept_to_and_told_of() -> None:
    async def scenario(world: World, client: httpx.AsyncClient) -> None:
        node = await world.node(1)
        world.serves("t", node)
        world.serves("fast", node)
        world.limits["t"] = RequestLimits(concurrency=1, body_bytes=KEEP * 2)
        world.limits["fast"] = RequestLimits(rate=0.01, burst=2)
        under_way = asyncio.create_task(client.get(f"/t/{SLOW}"))
        await world.until(lambda: node.got[SLOW] == 1)
        second = await client.get("/t/x")
        assert (second.status_code, second.json()["error"]["type"]) == (429, "too_many_at_once")
        assert second.headers["retry-after"] == "1"
        node.go_on.set()
        assert (await under_way).status_code == 200
        await world.until(lambda: world.count("t", "under_way") == 0)

        large = await client.post("/t/x", content=b"a" * (KEEP * 2 + 1))
        assert (large.status_code, large.json()["error"]["type"]) == (413, "body_too_large")

        async def parts() -> AsyncIterator[bytes]:
            for _ in range(5):
                yield b"a" * KEEP

        assert (await client.post("/t/upload", content=parts())).status_code == 413
        assert world.count("t", "under_way") == 0

        codes = [(await client.get("/fast/x")).status_code for _ in range(3)]
        assert codes == [200, 200, 429]
        slow = await client.get("/fast/x")
        assert slow.json()["error"]["type"] == "rate_limited"
        assert 90 < int(slow.headers["retry-after"]) <= 100
        assert world.count("fast", "requests_total", "rate") == 2

    play(scenario)


def test_what_is_held_for_one_tenant_leaves_others_their_room() -> None:
    async def scenario(world: World, client: httpx.AsyncClient) -> None:
        node = await world.node(1)
        for tenant in ("noisy", "quiet"):
            world.moves(tenant, 1)
        noisy = [
            asyncio.create_task(client.post("/noisy/x", content=b"a" * 100)) for _ in range(60)
        ]
        await world.until(lambda: world.count("noisy", "requests_total", "bytes") == 50)
        quiet = [asyncio.create_task(client.post("/quiet/x", content=b"a")) for _ in range(10)]
        await world.until(lambda: world.count("quiet", "held") == 10)
        assert world.count("noisy", "held") == 10
        assert world.count("noisy", "held_bytes") == 1000
        world.serves("quiet", node)
        assert {(await one).status_code for one in quiet} == {200}
        world.serves("noisy", node)
        assert Counter([(await one).status_code for one in noisy]) == {200: 10, 503: 50}

    play(scenario, hold_requests=20, hold_bytes=1000)
