"""Streams: what readers see, over the engine and over HTTP."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from node import ActivityStream, NonRetryable, Signal, activity, workflow
from node.api import create_api
from node.engine.archive import replay_archive
from node.engine.engine import Engine
from node.engine.errors import StreamClosed, UnknownExecution, UnknownStream
from node.engine.events import Kind, Reuse
from node.engine.inspection import events_of, inspect_log
from tests.integration.engine.harness import Proves, application, engine, go, until
from tests.integration.engine.openapi_checks import Checked
from tests.integration.engine.streams_scenario import items_of, kept

go_on = Signal("go", str)


@workflow
async def talks() -> None:
    said = workflow.stream("said")
    while (word := await workflow.receive(go_on)) != "end":
        said.publish(word)
        if word == "close":
            said.close()
            with pytest.raises(StreamClosed):
                said.publish("more")


@activity
async def many(count: int) -> None:
    stream = activity.stream("tokens")
    for number in range(count):
        await stream.publish(f"token {number}")
        if number % 20 == 0:
            await asyncio.sleep(0.02)


@activity
def plain(size: int) -> None:
    stream = activity.stream("tokens")
    for number in range(20):
        stream.publish([number, "x" * size])


@workflow
async def streams(count: int = 0, size: int = 0) -> None:
    await (plain(size) if size else many(count))


working = True


@activity
async def fails() -> None:
    stream: ActivityStream = activity.stream("out")
    stream.publish("try")
    if not working:
        raise NonRetryable("no")


@workflow
async def breaks() -> None:
    out = workflow.stream("out")
    out.publish("before")
    try:
        await fails()
    finally:
        out.publish("after")
        out.close()


APP = application(talks, streams, many, plain, breaks, fails, go_on)


async def say(it: Engine, *words: str) -> None:
    for word in words:
        await it.signal("t", "go", word)


def test_a_reader_is_woken_and_goes_on_where_it_was(tmp_path: Path) -> None:
    async def main() -> None:
        async with engine(tmp_path, APP) as it:
            await it.start("talks", {}, id="t")
            with it.follow("t", "said") as reader:
                assert (await reader.read(10, 0)).items == []
                waiting = asyncio.create_task(reader.read(10, 10))
                await asyncio.sleep(0.01)
                await say(it, "a")
                assert [item.value for item in (await waiting).items] == ["a"]
                await say(it, "b", "c")
                first = await reader.read(1, 10)
                assert ([item.value for item in first.items], first.next) == (["b"], 2)
            with it.follow("t", "said", 2) as other:
                assert [item.value for item in (await other.read(10, 10)).items] == ["c"]
                await say(it, "close")
                page = await other.read(10, 10)
                assert ([item.value for item in page.items], page.ended) == (["close"], True)
            assert [(one.closed, one.length) for one in it.streams("t")] == [(True, 4)]
            await say(it, "end")
            await it.result("t", wait=10)
            assert it._readers._by_key == {}
            replay_archive(it.export("t"), APP)
            with it.follow("t", "nothing") as nobody, pytest.raises(UnknownStream):
                await nobody.read(1, 1)
            with it.follow("u", "said") as nobody, pytest.raises(UnknownExecution):
                await nobody.read(1, 1)

    go(main())


def test_a_stream_ends_with_its_execution_and_goes_on_under_its_id(tmp_path: Path) -> None:
    async def main() -> None:
        async with engine(tmp_path, APP) as it:
            await it.start("talks", {}, id="t")
            await say(it, "a")
            with it.follow("t", "said") as reader:
                assert len((await reader.read(10, 10)).items) == 1
                waiting = asyncio.create_task(reader.read(10, 10))
                await asyncio.sleep(0.01)
                await it.control.terminate("t", "enough")
                assert (await waiting).ended
            await it.start("talks", {}, id="t", reuse=Reuse.IF_CLOSED)
            await say(it, "b")
            with it.follow("t", "said", 1) as reader:
                item = (await reader.read(10, 10)).items[0]
                assert (item.offset, item.value, item.discards_from) == (1, "b", 0)

    go(main())


def test_a_second_try_says_what_is_void(tmp_path: Path) -> None:
    async def main() -> None:
        global working
        async with engine(tmp_path, APP) as it:
            working = False
            await it.start("breaks", {}, id="b")
            await it.result("b", wait=10)
            assert [item.value for item in items_of(tmp_path / "log.db", "out")] == [
                "before",
                "try",
                "after",
            ]
            working = True
            await it.control.retry("b")
            await it.result("b", wait=10)
        items = items_of(tmp_path / "log.db", "out")
        assert [item.offset for item in items] == list(range(5))
        assert kept(items) == [(None, "before"), ("fails#1", "try"), (None, "after")]
        inspect_log(tmp_path / "log.db")

    go(main())


def test_many_values_are_few_events(tmp_path: Path) -> None:
    async def main() -> None:
        async with engine(tmp_path, APP) as it:
            await it.start("streams", {"count": 1000}, id="m")
            await it.result("m", wait=30)
            assert it.streams("m")[0].length == 1000
        chunks = [one for one in events_of(tmp_path / "log.db") if one.kind is Kind.STEP_CHUNK]
        assert len(chunks) < 60
        assert sum(len(str(one.payload)) for one in chunks) < 1000 * 20

    go(main())


def test_a_thread_waits_while_too_much_is_on_its_way(tmp_path: Path) -> None:
    async def main() -> None:
        async with engine(tmp_path, APP) as it:
            await it.start("streams", {"size": 100_000}, id="p")
            await it.result("p", wait=30)
            assert it.streams("p")[0].length == 20
        items = items_of(tmp_path / "log.db")
        assert [item.value[0] for item in items] == list(range(20))
        assert [item.begins for item in items] == [True] + [False] * 19
        assert {item.source for item in items} == {"plain#1"}

    go(main())


def test_over_http(tmp_path: Path) -> None:
    async def main() -> None:
        async with engine(tmp_path, APP, barrier=Proves()) as it:
            transport = Checked(create_api(it), APP)
            async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
                await it.start("talks", {}, id="t")
                await say(it, "a", "b")
                url = "/executions/t/streams"
                listed = (await client.get(url)).json()["items"]
                assert listed == [{"name": "said", "length": 2, "closed": False}]
                page = (await client.get(f"{url}/said?offset=1&wait=5")).json()
                assert page["items"] == [{"offset": 1, "value": "b"}]
                assert (page["next"], page["ended"], page["durable"]) == (2, False, True)
                before = time.monotonic()
                empty = (await client.get(f"{url}/said?offset=2&wait=0.05")).json()
                assert (empty["items"], empty["next"]) == ([], 2)
                assert time.monotonic() - before > 0.04
                headers = {"accept": "text/event-stream", "last-event-id": "0"}
                followed = asyncio.create_task(client.get(f"{url}/said", headers=headers))
                await until(lambda: bool(it._readers._by_key))
                await say(it, "c", "end")
                answer = await followed
                assert answer.headers["content-type"].startswith("text/event-stream")
                assert events(answer.text) == [
                    ("1", {"offset": 1, "value": "b"}),
                    ("2", {"offset": 2, "value": "c"}),
                    ("", {"status": "completed"}),
                ]
                assert it._readers._by_key == {}
                unknown = await client.get(f"{url}/nothing")
                assert unknown.json()["error"]["type"] == "unknown_stream"
                nowhere = await client.get("/executions/u/streams/said", headers=headers)
                assert nowhere.status_code == 404

    go(main())


def events(text: str) -> list[tuple[str, Any]]:
    found = []
    for part in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in part.splitlines() if line[0] != ":")
        if fields:
            found.append((fields.get("id", ""), json.loads(fields["data"])))
    return found
