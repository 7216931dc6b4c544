"""Signals, updates and queries over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx

from node import Signal, workflow
from node.api import create_api
from node.engine.archive import Archive, replay_archive
from node.engine.durability import Barrier
from node.engine.engine import Engine
from tests.integration.engine.harness import Proves, application, engine
from tests.integration.engine.openapi_checks import Checked

number = Signal("number", int)


@workflow
async def adds() -> int:
    total = 0

    def positive(by: int) -> None:
        if by <= 0:
            raise ValueError("only up")

    @workflow.update(validator=positive)
    def add(by: int) -> int:
        nonlocal total
        total += by
        return total

    @workflow.query
    def current() -> int:
        return total

    last = await workflow.receive(number)
    return total + last


Test = Callable[[httpx.AsyncClient, Engine], Coroutine[Any, Any, None]]


def serve(path: Path, test: Test, *, barrier: Barrier | None = None) -> None:
    async def main() -> None:
        async with engine(path, application(number, adds), barrier=barrier) as it:
            transport = Checked(create_api(it, proof_timeout=0.05), it.config.application)
            async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
                await client.post("/executions", json={"workflow": "adds", "id": "a"})
                await test(client, it)

    asyncio.run(main())


def test_messages(tmp_path: Path) -> None:
    async def test(client: httpx.AsyncClient, it: Engine) -> None:
        url = "/executions/a"
        body = {"input": {"by": 2}}
        found = await client.post(f"{url}/updates/add", json={**body, "key": "1"})
        assert found.status_code == 200
        assert (found.json()["result"], found.json()["durable"]) == (2, True)
        again = await client.post(f"{url}/updates/add", json=body, headers={"idempotency-key": "1"})
        assert again.json()["result"] == 2
        refused = await client.post(f"{url}/updates/add", json={"input": {"by": -1}})
        assert (refused.status_code, refused.json()["error"]["type"]) == (422, "update_refused")
        unknown = await client.post(f"{url}/updates/nothing")
        assert (unknown.status_code, unknown.json()["error"]["type"]) == (404, "unknown_handler")
        asked = await client.post(f"{url}/queries/current")
        assert (asked.json()["result"], asked.json()["durable"]) == (2, True)
        unfit = await client.post(f"{url}/signals/number", json={"value": "x"})
        assert (unfit.status_code, unfit.json()["error"]["type"]) == (422, "payload_error")
        sent = await client.post(f"{url}/signals/number", json={"value": 5, "key": "s"})
        assert (sent.status_code, sent.json()["arrived"]) == (202, True)
        result = (await client.get(f"{url}/result?wait=10")).json()
        assert result["result"] == 7
        twice = await client.post(f"{url}/signals/number", json={"value": 5, "key": "s"})
        assert (twice.status_code, twice.json()["arrived"]) == (200, False)
        late = await client.post(f"{url}/signals/number", json={"value": 5})
        assert (late.status_code, late.json()["error"]["type"]) == (409, "execution_closed")
        nowhere = await client.post("/executions/b/signals/number", json={"value": 5})
        assert nowhere.status_code == 404

    serve(tmp_path, test, barrier=Proves())


def test_control(tmp_path: Path) -> None:
    async def test(client: httpx.AsyncClient, it: Engine) -> None:
        url = "/executions/a"
        for action, changed in [("pause", True), ("pause", False), ("resume", True)]:
            found = await client.post(f"{url}/{action}")
            assert (found.status_code, found.json()["changed"]) == (200, changed)
            assert found.json()["durable"] is True
        waits = (await client.get(f"{url}/waiting")).json()["items"]
        assert [(wait["kind"], wait["name"]) for wait in waits] == [("signal", "number")]
        found = await client.post(f"{url}/cancel", json={"reason": "enough"})
        assert found.json()["changed"] is True
        result = (await client.get(f"{url}/result?wait=10")).json()
        assert (result["status"], result["error"]["message"]) == ("cancelled", "enough")
        assert result["durable"] is True
        assert (await client.post(f"{url}/retry")).json()["status"] == "running"
        assert (await client.post(f"{url}/retry")).status_code == 409
        assert (await client.post(f"{url}/terminate")).json()["status"] == "terminated"
        listed = (await client.get("/executions?status=terminated")).json()["items"]
        assert [item["id"] for item in listed] == ["a"]
        body = {"workflow": "adds", "id": "a", "reuse": "if_failed"}
        assert (await client.post("/executions", json=body)).status_code == 201
        archive = Archive.read((await client.get(f"{url}/archive")).content)
        assert replay_archive(archive, application(number, adds)).ok
        assert (await client.post("/external/nonsense")).status_code == 404
        assert (await client.post("/executions/b/cancel")).status_code == 404
        assert (await client.get("/executions/b/waiting")).status_code == 404

    serve(tmp_path, test, barrier=Proves())


def test_without_proof_only_what_asks_for_less_is_done(tmp_path: Path) -> None:
    async def test(client: httpx.AsyncClient, it: Engine) -> None:
        await it.start("adds", {}, id="a")
        refused = await client.post("/executions/a/updates/add", json={"input": {"by": 1}})
        assert refused.json()["error"]["type"] == "durability_unavailable"
        asked = await client.post("/executions/a/queries/current")
        assert (asked.json()["result"], asked.json()["durable"]) == (0, False)
        body = {"input": {"by": 1}, "ack": "async"}
        done = await client.post("/executions/a/updates/add", json=body)
        assert (done.json()["result"], done.json()["durable"]) == (1, False)

    serve(tmp_path, test)
