"""Retention over HTTP."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from node import Retention, workflow
from node.api import create_api
from node.engine.durability import Outcome, Proof
from tests.integration.engine.harness import Proves, application, engine, go


@workflow
async def work(number: int) -> int:
    return number


@workflow
async def waits() -> None:
    await workflow.receive("go")


APP = application(work, waits, Retention(workflow=work, keep=timedelta()))
LATER = application(work, waits)


def client_of(it: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=create_api(it, proof_timeout=0.2))
    return httpx.AsyncClient(transport=transport, base_url="http://engine")


def test_an_execution_is_deleted_and_durably_gone(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, LATER, barrier=Proves()) as it, client_of(it) as client:
            await client.post(
                "/executions", json={"workflow": "work", "id": "a", "input": {"number": 1}}
            )
            await it.result("a", wait=20)
            await it.start("waits", {}, id="open")
            refused = await client.delete("/executions/open")
            assert refused.status_code == 409
            assert refused.json()["error"]["type"] == "execution_open"
            assert "terminate" in refused.json()["error"]["hint"]
            held = await client.post("/executions/a/hold", json={"reason": "a lawsuit"})
            assert (held.status_code, held.json()["held"], held.json()["changed"]) == (
                200,
                True,
                True,
            )
            refused = await client.delete("/executions/a")
            assert refused.json()["error"]["type"] == "execution_held"
            assert (await client.get("/retention")).json()["held"] == ["a"]
            released = await client.post("/executions/a/release")
            assert released.json()["held"] is False
            deleted = await client.delete("/executions/a")
            assert deleted.status_code == 200
            assert deleted.json()["events"] == 2
            assert deleted.json()["durable"] is True
            for path in ("", "/events", "/result", "/archive", "/waiting", "/streams"):
                assert (await client.get(f"/executions/a{path}")).status_code == 404
            assert (await client.get("/executions/a/streams/x")).status_code == 404
            assert (await client.delete("/executions/a")).status_code == 404
            assert (await client.post("/executions/a/signals/x", json={})).status_code == 404
            assert (await client.post("/executions/a/retry", json={})).status_code == 404
            again = await client.post(
                "/executions", json={"workflow": "work", "id": "a", "input": {"number": 2}}
            )
            assert again.status_code == 201
            listed = (await client.get("/executions")).json()["items"]
            assert {one["id"] for one in listed} == {"a", "open"}

    go(test())


def test_what_is_due_is_named_and_pruned(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, APP) as it, client_of(it) as client:
            for number in range(3):
                await it.start("work", {"number": number}, id=f"w{number}")
                await it.result(f"w{number}", wait=20)
            plan = (await client.post("/retention/prune", json={"dry_run": True})).json()
            assert (plan["dry_run"], plan["executions"]) == (True, 3)
            assert [one["id"] for one in plan["named_executions"]] == ["w0", "w1", "w2"]
            assert len((await client.get("/executions")).json()["items"]) == 3
            refused = await client.post("/retention/prune", json={})
            assert refused.json()["error"]["type"] == "durability_unavailable"
            done = (await client.post("/retention/prune", json={"ack": "async"})).json()
            assert (done["executions"], done["events"], done["trouble"]) == (3, 6, None)
            assert done["left"] == {"executions": 0, "histories": 0}
            view = (await client.get("/retention")).json()
            assert view["rules"] == [
                {
                    "workflow": "work",
                    "outcome": None,
                    "keep": 0.0,
                    "history": None,
                    "source": "application",
                }
            ]
            assert (view["executions"], view["running"]) == (3, False)
            assert view["next_at"] is not None
            assert view["size"] > view["free"] >= 0
            status = (await client.get("/status")).json()
            assert status["executions"]["completed"] == 0

    go(test())


@workflow
async def tells() -> None:
    out = workflow.stream("out")
    for number in range(3):
        out.publish(number)
    await workflow.receive("go")


def test_readers_of_streams_come_to_an_end(tmp_path: Path) -> None:
    app = application(tells, Retention(keep=timedelta()))

    async def test() -> None:
        async with engine(tmp_path, app) as it, client_of(it) as client:
            await it.start("tells", {}, id="a")
            with it.follow("a", "out") as slow:
                assert len((await slow.read(1, 20)).items) == 1
                await it.signal("a", "go")
                await it.result("a", wait=20)
                # No rule removes it under somebody who reads.
                assert (await it.retention.run()).executions == 0
                events = await client.get(
                    "/executions/a/streams/out", headers={"accept": "text/event-stream"}
                )
                assert '"status": "completed"' in events.text
                await it.retention.delete("a")
                page = await slow.read(10, 20)
                assert [item.value for item in page.items] == [1, 2]
                assert page.ended
            await it.start("tells", {}, id="b")
            with it.follow("b", "out") as late:
                assert len((await late.read(10, 20)).items) == 3
                reading = asyncio.create_task(late.read(10, 20))
                await it.control.terminate("b")
                await it.retention.delete("b")
                assert (await reading).ended
                assert (await late.read(10, 0)).ended
            assert (await client.get("/executions/b/streams/out")).status_code == 404

    go(test())


class Late:
    async def prove(self, sequence: int) -> Proof:
        return Proof(Outcome.TIMED_OUT)


def test_what_cannot_be_proven_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.engine.engine.PROOF_PATIENCE", 0.05)

    async def test() -> None:
        async with engine(tmp_path, LATER, barrier=Late()) as it, client_of(it) as client:
            await it.start("work", {"number": 1}, id="a")
            await it.result("a", wait=20)
            refused = await client.request("DELETE", "/executions/a", json={"ack": "async"})
            assert refused.status_code == 503
            assert refused.json()["error"]["type"] == "not_proven_yet"
            assert (await client.get("/executions/a")).status_code == 200

    go(test())
