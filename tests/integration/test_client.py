"""The client against an engine: on its socket, and through both gateways of the fleet."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

import fleet.agent.api
import fleet.coordinator.api
from backup.ownership import TenantRecord
from fleet.gateway import holding
from fleet.gateway.gate import Gate
from fleet.settings import GatewaySettings
from node import Queue, RetryPolicy, Signal, activity, workflow
from node.api import create_api
from node.client import (
    AsyncClient,
    Client,
    Conflict,
    Denied,
    ExecutionCancelled,
    ExecutionFailed,
    ExecutionTerminated,
    Invalid,
    NotFound,
    NotOver,
    QueryFailed,
    UpdateFailed,
    UpdateRefused,
)
from node.engine.engine import Engine
from node.engine.events import Reuse, Status
from node.engine.forked import ForkMode
from tests.integration.engine.harness import Proves, application, engine
from tests.integration.test_webhooks import TOKEN, listen, served


class Greeting(BaseModel):
    text: str
    times: int


approved = Signal("approved", bool)
LINE = Queue("line")
broken = [True]


@activity(retry=RetryPolicy(max_attempts=1))
async def mends() -> str:
    if broken.pop() if broken else False:
        raise ValueError("too bad")
    return "mended"


@workflow
async def greet(name: str, times: int = 1) -> Greeting:
    return Greeting(text=f"Hello, {name}!", times=times)


@workflow
async def fixes() -> str:
    return await mends()


@workflow
async def asks(question: str) -> dict[str, bool]:
    count = 0

    @workflow.query
    def size(by: int = 1) -> int:
        return len(question) // by

    def some(more: int) -> None:
        if more < 0:
            raise ValueError("less is not more")

    @workflow.update(validator=some)
    def add(more: int) -> int:
        nonlocal count
        if more > 100:
            raise ValueError("that is too much")
        count += more
        return count

    answers = workflow.stream("answers")
    answers.publish({"asked": question})
    workflow.label(stage="asked")
    yes = await workflow.receive(approved)
    await answers.publish(yes)
    return {question: yes}


APP = application(greet, fixes, mends, asks, approved, LINE)


@asynccontextmanager
async def on_a_socket(folder: Path) -> AsyncIterator[tuple[Engine, str, dict[str, Any]]]:
    path = folder / "engine.sock"
    async with (
        engine(folder, APP, barrier=Proves()) as it,
        served(create_api(it), listen(path)),
    ):
        yield it, f"unix://{path}", {}


@asynccontextmanager
async def in_a_fleet(folder: Path) -> AsyncIterator[tuple[Engine, str, dict[str, Any]]]:
    """One tenant `acme` on one host, behind a coordinator."""
    api_socket, on_host, front = folder / "api.sock", listen(), listen()
    running = SimpleNamespace(
        status=SimpleNamespace(serving=True, api_socket=str(api_socket), epoch=1)
    )
    nodes = SimpleNamespace(live=lambda tenant: running, running=lambda: [running])
    agent: Any = SimpleNamespace(host="h", has_authority=True, nodes=nodes)
    way = holding.Way(_url(on_host), "/acme", 1, "one")
    here = holding.Standing(way, 1, coming=True)
    coordinator: Any = SimpleNamespace(
        tenants={"acme": SimpleNamespace(wanted=TenantRecord(tenant="acme", app="app"))},
        gate=Gate(GatewaySettings(), lambda _: here),
        knows=True,
    )
    async with (
        engine(folder, APP, barrier=Proves()) as it,
        served(create_api(it), listen(api_socket)),
        served(fleet.agent.api.create_app(agent, TOKEN), on_host),
        served(fleet.coordinator.api.create_app(coordinator, TOKEN), front),
    ):
        yield it, f"{_url(front)}/acme", {"token": TOKEN}


def _url(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


WAYS = pytest.mark.parametrize("way", [on_a_socket, in_a_fleet])
Way = Callable[[Path], Any]


def run(way: Way, folder: Path, test: Callable[[AsyncClient], Awaitable[None]]) -> None:
    async def main() -> None:
        async with way(folder) as (_, url, more), AsyncClient(url, **more) as client:
            await test(client)

    asyncio.run(main())


@WAYS
def test_a_life_over_asyncio(way: Way, tmp_path: Path) -> None:
    async def test(client: AsyncClient) -> None:
        handle = await client.start(greet, name="Grace", times=2)
        assert handle.started is not None
        assert handle.started.durable
        assert await handle.result() == Greeting(text="Hello, Grace!", times=2)
        outcome = await handle.outcome()
        assert (outcome.durable, outcome.result["times"]) == (True, 2)
        assert await (await client.start("greet", {"name": "Bo"})).result() == {
            "text": "Hello, Bo!",
            "times": 1,
        }

        labelled = client.using(id="q", labels={"customer": "acme"})
        question = await labelled.start(asks, "why")
        with pytest.raises(NotOver):
            await question.result(wait=0.05)
        assert await question.query("size", {"by": 3}, type=int) == 1
        assert await question.update("add", {"more": 3}, key="k") == 3
        assert await question.update("add", {"more": 3}, key="k") == 3
        (wait,) = (await question.waiting()).items
        assert (wait.kind, wait.name) == ("signal", "approved")
        assert (await question.pause()).paused
        assert not (await question.resume()).paused
        # Nobody can wait for a value that is not there yet but somebody who follows.
        reader = asyncio.create_task(_values(question.follow("answers")))
        assert (await question.signal(approved, True, key="s")).arrived
        assert not (await question.signal("approved", True, key="s")).arrived
        assert await question.result() == {"why": True}
        assert await reader == [{"asked": "why"}, True]
        assert [one.name for one in await question.streams()] == ["answers"]
        kinds = [event.kind async for event in question.events()]
        assert (kinds[0], kinds[-1]) == ("started", "completed")
        shown = await question.show()
        assert shown.labels == {"customer": "acme", "stage": "asked"}
        assert (await question.archive()).execution == "q"

        ids = [one.id async for one in client.executions(workflow=[greet], newest=True)]
        assert ids[1] == handle.id
        found = [one.id async for one in client.executions(labels={"customer": "acme"})]
        assert found == ["q"]
        counts = await client.count("workflow", status=Status.COMPLETED)
        assert {one.workflow: one.count for one in counts.items} == {"asks": 1, "greet": 2}
        rows = await client.sql("SELECT count(*) FROM executions WHERE workflow = ?", ("greet",))
        assert rows.rows == [[2]]
        assert {one.name for one in await client.workflows()} == {"asks", "fixes", "greet"}
        assert (await client.status()).tenant == "acme"

    run(way, tmp_path, test)


def test_what_goes_wrong_has_a_type(tmp_path: Path) -> None:
    async def test(client: AsyncClient) -> None:
        with pytest.raises(NotFound, match="no workflow"):
            await client.start("nothing")
        with pytest.raises(Invalid):
            await client.start("greet", {"name": 7})
        await client.using(id="g").start(greet, "Ada")
        # The same again is the same execution; another is refused.
        again = await client.using(id="g").start(greet, "Ada")
        assert (await again.result()).text == "Hello, Ada!"
        with pytest.raises(Conflict):
            await client.using(id="g").start(greet, "Bo")
        with pytest.raises(Conflict):
            await client.using(id="g", reuse=Reuse.REJECT).start(greet, "Ada")
        with pytest.raises(NotFound):
            await client.handle("none").show()

        broken[:] = [True]
        failing = await client.start(fixes)
        with pytest.raises(ExecutionFailed, match="too bad") as raised:
            await failing.result()
        assert raised.value.type == "ActivityFailed"
        await failing.retry()
        assert await failing.result() == "mended"
        with pytest.raises(Conflict):
            await failing.retry()

        question = await client.start(asks, "why")
        with pytest.raises(UpdateRefused, match="less is not more"):
            await question.update("add", {"more": -1})
        with pytest.raises(UpdateFailed, match="too much"):
            await question.update("add", {"more": 101})
        with pytest.raises(QueryFailed):
            await question.query("size", {"by": 0})
        await question.cancel("no more")
        with pytest.raises(ExecutionCancelled, match="no more"):
            await question.result()
        other = await client.start(asks, "how")
        await other.terminate()
        with pytest.raises(ExecutionTerminated):
            await other.result()

    run(on_a_socket, tmp_path, test)


def test_many_at_once(tmp_path: Path) -> None:
    async def test(client: AsyncClient) -> None:
        for n in range(5):
            await client.using(id=f"q{n}", labels={"odd": str(n % 2)}).start(asks, "why")
        dry = [one async for one in client.bulk("cancel", labels={"odd": "1"}, dry_run=True)]
        assert [(one.id, one.status) for one in dry] == [("q1", "running"), ("q3", "running")]
        sent = client.bulk("signal", signal="approved", value=True, labels={"odd": "1"})
        assert [one.changed async for one in sent] == [True, True]
        assert await client.handle("q3", asks).result() == {"why": True}
        with pytest.raises(ValueError, match="leaves out nothing"):
            client.bulk("cancel")
        done = [one async for one in client.bulk("cancel", all=True, reason="closing")]
        assert [(one.id, one.changed) for one in done] == [(f"q{n}", n % 2 == 0) for n in range(5)]
        assert (await client.count("status")).total == 5

    run(on_a_socket, tmp_path, test)


def test_plain_code_does_the_same(tmp_path: Path) -> None:
    def work(url: str, more: dict[str, Any]) -> None:
        with Client(url, **more) as client:
            assert client.start(greet, name="Grace").result() == Greeting(
                text="Hello, Grace!", times=1
            )
            question = client.using(id="q").start(asks, "why")
            assert question.query("size", type=int) == 3
            question.signal(approved, True)
            assert [item.value for item in question.follow("answers")] == [{"asked": "why"}, True]
            assert question.result(wait=10) == {"why": True}
            assert [one.id for one in client.executions(id_prefix="q")] == ["q"]
            assert [one.id for one in client.bulk("pause", id_prefix="q")] == ["q"]
            assert json.loads(question.archive().model_dump_json())["execution"] == "q"

    async def main() -> None:
        async with in_a_fleet(tmp_path) as (_, url, more):
            await asyncio.to_thread(work, url, more)
            with pytest.raises(Denied):
                await AsyncClient(url, token="wrong").status()

    asyncio.run(main())


def test_an_engine_that_can_prove_nothing_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "engine.sock"
        async with engine(tmp_path, APP) as it, served(create_api(it), listen(path)):
            async with AsyncClient(f"unix://{path}") as client:
                with pytest.raises(Invalid) as raised:
                    await client.start(greet, "Ada")
                assert raised.value.type == "durability_unavailable"
                assert '"async"' in raised.value.hint
            async with AsyncClient(f"unix://{path}", ack="async") as client:
                handle = await client.start(greet, "Ada")
                assert handle.started is not None
                assert not handle.started.durable
                assert not (await handle.outcome(5)).durable

    asyncio.run(main())


def test_a_client_waits_for_an_engine_that_comes_back(tmp_path: Path) -> None:
    """Its socket is gone for a moment, as when it is started anew on the same host."""

    async def main() -> None:
        path = tmp_path / "engine.sock"
        told: list[str] = []
        async with AsyncClient(f"unix://{path}", ack="async", on_wait=told.append) as client:
            early = asyncio.create_task(client.start(greet, "Ada"))
            while not told:
                await asyncio.sleep(0.01)
            async with engine(tmp_path, APP) as it, served(create_api(it), listen(path)):
                assert (await (await early).result()).text == "Hello, Ada!"
        assert "no answer" in told[0]

    asyncio.run(main())


async def _values(items: Any) -> list[Any]:
    return [item.value async for item in items]


def test_forks_schedules_queues_and_removal(tmp_path: Path) -> None:
    async def test() -> None:
        app = application(greet, LINE)
        async with engine(tmp_path, app, barrier=Proves()) as it:
            transport = httpx.ASGITransport(app=create_api(it))
            async with AsyncClient("http://engine", transport=transport) as client:
                first = await client.using(id="a").start(greet, "Grace", times=2)
                result = await first.result(wait=20)
                preview = await first.preview_fork(mode=ForkMode.REUSE)
                assert preview.mode is ForkMode.REUSE
                fork = await first.fork(mode=ForkMode.REUSE, new_id="b")
                assert (fork.id, await fork.result(wait=20)) == ("b", result)
                taken = await first.archive(children=True)
                kept = await client.import_(taken, id="c")
                assert (kept.id, kept.status) == ("c", Status.COMPLETED)
                made = await client.schedules.create(
                    "s", {"workflow": "greet", "input": {"name": "x"}, "every": 3600}, paused=True
                )
                assert made.status == "paused"
                assert [one.id for one in await client.schedules.list()] == ["s"]
                assert (await client.schedules.trigger("s", key="k")).id == "s"
                assert (await client.schedules.delete("s")).deleted
                with pytest.raises(NotFound):
                    await client.schedules.show("s")
                assert (await client.queues.pause("line")).changed
                assert (await client.queues.show("line")).paused
                assert (await first.hold("evidence")).held
                with pytest.raises(Conflict):
                    await first.delete()
                await first.release()
                assert (await first.delete()).deleted
                with pytest.raises(NotFound):
                    await first.show()
                assert [done.dry_run async for done in client.prune(dry_run=True)] == [True]
                assert (await client.retention()).executions == 1
                assert [one.id async for one in client.waiting()] == []
                assert len(await client.versions()) == 1

    asyncio.run(test())
