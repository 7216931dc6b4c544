"""The demo's client against an engine in memory that loses, refuses and lies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import httpx
import pytest

from fleet.client import AsyncClient
from fleet.demo.load import Load, Start, plan_starts
from fleet.views import Bookmark


class Engine:
    """A tenant in memory: an execution completes as soon as it is looked at a second time."""

    def __init__(self) -> None:
        self.epoch = 1
        self.sequence = 0
        self.log: dict[str, int] = {}
        self.looks: dict[str, int] = {}
        self.refusals = 0
        self.always_async = False
        self.on_list: Callable[[], None] | None = None
        self.starts: list[str] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        if self.refusals > 0:
            self.refusals -= 1
            body = {"error": {"type": "unavailable", "message": "moving"}, "outcome": "unknown"}
            return httpx.Response(503, json=body, headers={"retry-after": "0.01"})
        parts = request.url.path.strip("/").split("/")[1:]
        if request.method == "POST":
            return self._start(json.loads(request.content))
        if parts == ["executions"]:
            if self.on_list:
                self.on_list()
            items = [
                {"id": id, "workflow": "digest", "status": self._status(id)} for id in self.log
            ]
            return httpx.Response(200, json={"items": items, "next": None})
        id = parts[1]
        if id not in self.log:
            return httpx.Response(404, json={"error": {"type": "not_found", "message": "?"}})
        outcome: dict[str, object] = {
            "id": id,
            "status": "completed",
            "result": id.upper(),
            "durable": False,
        }
        return httpx.Response(200, json=outcome | {"bookmark": f"{self.epoch}:{self.sequence}"})

    def _start(self, body: dict[str, str]) -> httpx.Response:
        id = body["id"]
        self.starts.append(id)
        if id not in self.log:
            self.sequence += 1
            self.log[id] = self.sequence
        durable = body["ack"] == "durable" and not self.always_async
        answer: dict[str, object] = {
            "id": id,
            "workflow": body["workflow"],
            "status": "running",
            "durable": durable,
            "bookmark": f"{self.epoch}:{self.log[id]}",
        }
        return httpx.Response(201, json=answer)

    def _item(self, id: str) -> dict[str, str]:
        return {"id": id, "workflow": "digest", "status": self._status(id)}

    def _status(self, id: str) -> str:
        self.looks[id] = self.looks.get(id, 0) + 1
        return "completed" if self.looks[id] > 1 else "running"


def _run(engine: Engine, starts: list[Start]) -> Load:
    async def main() -> Load:
        transport = httpx.MockTransport(engine.answer)
        async with AsyncClient("http://fleet", "token", transport=transport) as client:
            load = Load({"acme": client}, starts, sweep_every=0.001)
            load.settle()
            await asyncio.wait_for(load.run(), 30)
            return load

    return asyncio.run(main())


def _starts(count: int, durable: bool = True) -> list[Start]:
    return [
        Start("acme", f"doc-{n}", "digest", {"document": str(n)}, durable, 0.0)
        for n in range(count)
    ]


def test_everything_is_started_once_and_followed_to_its_end() -> None:
    engine = Engine()
    load = _run(engine, _starts(5))
    assert sorted(engine.starts) == [f"doc-{n}" for n in range(5)]
    assert load.finished == load.planned == 5
    assert {one.result for one in load.completions["acme"]} == {f"DOC-{n}" for n in range(5)}
    assert load.strange == []
    assert load.retries == 0


def test_a_refused_start_is_repeated_with_the_same_id() -> None:
    engine = Engine()
    engine.refusals = 3
    load = _run(engine, _starts(2))
    assert load.retries >= 3
    assert sorted(engine.log) == ["doc-0", "doc-1"]


def test_an_unproven_start_that_a_loss_takes_back_is_started_again() -> None:
    engine = Engine()

    def lose() -> None:
        if engine.epoch == 1 and len(engine.log) == 2:
            engine.epoch = 2
            del engine.log["doc-1"]

    engine.on_list = lose
    load = _run(engine, _starts(2, durable=False))
    assert load.restarted == 1
    assert load.finished == 2
    marks = [str(one.bookmark) for one in load.acknowledged["acme"] if one.execution == "doc-1"]
    assert [mark.split(":")[0] for mark in marks] == ["1", "2"]


def test_a_finished_execution_that_a_loss_takes_back_is_followed_again() -> None:
    engine = Engine()
    lost = asyncio.Event()

    def lose() -> None:
        if engine.looks.get("doc-0", 0) == 2 and not lost.is_set():
            lost.set()
            engine.epoch = 2
            engine.looks["doc-0"] = 0

    engine.on_list = lose

    async def main() -> Load:
        transport = httpx.MockTransport(engine.answer)
        async with AsyncClient("http://fleet", "token", transport=transport) as client:
            load = Load({"acme": client}, _starts(1), sweep_every=0.001)
            task = asyncio.create_task(load.run())
            await lost.wait()
            load.settle()
            await asyncio.wait_for(task, 30)
            return load

    load = asyncio.run(main())
    assert [one.bookmark.epoch for one in load.completions["acme"]] == [1, 2]


def test_an_answer_without_the_durability_that_was_asked_for_is_a_finding() -> None:
    engine = Engine()
    engine.always_async = True
    assert len(_run(engine, _starts(1)).strange) == 1


def test_the_plan_deals_every_document_to_every_tenant() -> None:
    inputs = [{"document": name} for name in ("a", "b", "c", "d")]
    tenants = {"acme": "async", "birch": "before_effects"}
    plan = plan_starts(tenants, inputs, ["a", "b", "c", "d"], "digest", 20.0, seed=1)  # type: ignore[arg-type]
    assert len({start.execution for start in plan}) == 8
    assert {start.durable for start in plan if start.tenant == "birch"} == {True}
    assert sum(start.durable for start in plan if start.tenant == "acme") == 2
    assert all(0.0 <= start.after <= 20.0 for start in plan)
    assert plan == plan_starts(tenants, inputs, ["a", "b", "c", "d"], "digest", 20.0, seed=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "1", "1:", ":1", "a:b", "1:2:3", "-1:2"])
def test_a_bookmark_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="epoch:sequence"):
        Bookmark.parse(text)
