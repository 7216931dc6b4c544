"""Schedules over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

from node import Schedule, workflow
from node.api import create_api
from node.engine.durability import Barrier
from node.engine.engine import Engine
from tests.integration.engine.harness import Proves, application, engine, until

Test = Callable[[httpx.AsyncClient, Engine], Coroutine[Any, Any, None]]
DAY = 86_400


@workflow
async def job(number: int = 1) -> int:
    return number


SPEC = {"workflow": "job", "cron": "30 9 * * mon-fri", "time_zone": "Europe/Paris"}


def serve(path: Path, test: Test, *, barrier: Barrier | None = None) -> None:
    async def main() -> None:
        app = application(job, Schedule("declared", job, every=DAY))
        async with engine(path, app, barrier=barrier) as it:
            transport = httpx.ASGITransport(create_api(it, proof_timeout=0.05))
            async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
                await test(client, it)

    asyncio.run(main())


def test_a_schedule_from_its_making_to_its_end(tmp_path: Path) -> None:
    async def test(client: httpx.AsyncClient, it: Engine) -> None:
        made = await client.post("/schedules", json={"id": "s", **SPEC})
        assert made.status_code == 201
        body = made.json()
        assert (body["id"], body["status"], body["durable"]) == ("s", "active", True)
        assert body["spec"]["cron"] == ["30 9 * * mon-fri"]
        assert len(body["next"]) == 5
        assert (await client.post("/schedules", json={"id": "s", **SPEC})).status_code == 200
        listed = (await client.get("/schedules")).json()["items"]
        assert [one["id"] for one in listed] == ["declared", "s"]

        paused = await client.post("/schedules/s/pause", json={"note": "why"})
        assert paused.json()["changed"] is True
        assert (await client.post("/schedules/s/pause")).json()["changed"] is False
        shown = (await client.get("/schedules/s")).json()
        assert (shown["status"], shown["note"], shown["next"]) == ("paused", "why", [])
        assert (await client.post("/schedules/s/resume")).json()["status"] == "active"

        asked = await client.post("/schedules/s/trigger", json={"key": "k"})
        assert asked.json()["execution"] == "s:trigger:k"
        assert asked.json()["changed"] is True
        assert (await client.post("/schedules/s/trigger", json={"key": "k"})).json()[
            "changed"
        ] is False
        assert (await client.post("/schedules/s/trigger")).json()["changed"] is True
        since = {"start": "2026-03-02T00:00Z", "end": "2026-03-07T00:00:00+01:00"}
        filled = await client.post("/schedules/s/backfill", json=since)
        assert filled.json()["ticks"] == 5
        await until(lambda: not it.schedules.show("s").waiting)
        assert (await it.result("s:2026-03-04T08:30:00Z", wait=10)).result == 1

        changed = await client.put("/schedules/s", json={"workflow": "job", "every": 3600})
        assert changed.json()["spec"]["every"] == 3600
        assert (await client.delete("/schedules/s")).json()["deleted"] is True
        assert (await client.get("/schedules/s")).status_code == 404

    serve(tmp_path, test, barrier=Proves())


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "type", "words"),
    [
        ("POST", "", {"id": "s", "every": 5}, 422, "bad_schedule", "workflow: Field required"),
        ("POST", "", {**SPEC, "id": "a/b"}, 422, "bad_schedule", "no name for a schedule"),
        ("POST", "", {**SPEC, "id": "s", "cron": "x"}, 422, "bad_schedule", "'x' is no cron"),
        ("POST", "", {**SPEC, "id": "s", "time_zone": "X"}, 422, "bad_schedule", "no time zone"),
        ("POST", "", {**SPEC, "id": "s", "queue": "q"}, 404, "unknown_queue", "no queue 'q'"),
        ("POST", "", {**SPEC, "id": "s", "input": {"n": 1}}, 422, "payload_error", "not what"),
        ("POST", "", {**SPEC, "id": "s", "workflow": "jobs"}, 404, "unknown_workflow", "jobs"),
        ("POST", "", {**SPEC, "id": "declared"}, 409, "schedule_conflict", "already"),
        ("POST", "", SPEC, 422, "bad_request", "id: Field required"),
        ("PUT", "/declared", SPEC, 409, "schedule_conflict", "the application declares"),
        ("PUT", "/s", SPEC, 404, "unknown_schedule", "no schedule 's'"),
        ("DELETE", "/declared", {}, 409, "schedule_conflict", "the application declares"),
        ("DELETE", "/s", {}, 404, "unknown_schedule", "no schedule 's'"),
        ("POST", "/s/pause", {}, 404, "unknown_schedule", "no schedule 's'"),
        ("POST", "/s/trigger", {"overlap": "skip"}, 422, "bad_request", "overlap"),
        ("POST", "/declared/backfill", {"start": 5, "end": 4}, 422, "bad_schedule", "later one"),
        ("POST", "/declared/backfill", {"start": "x", "end": 4}, 422, "bad_request", "start"),
    ],
)
def test_what_cannot_be_is_said_with_what_to_do(
    tmp_path: Path,
    method: str,
    path: str,
    body: dict[str, Any],
    status: int,
    type: str,
    words: str,
) -> None:
    async def test(client: httpx.AsyncClient, it: Engine) -> None:
        before = it.sequence
        answer = await client.request(method, f"/schedules{path}", json={**body, "ack": "async"})
        error = answer.json()["error"]
        assert (answer.status_code, error["type"]) == (status, type)
        assert words in error["message"]
        assert error["hint"]
        assert it.sequence - before <= 1

    serve(tmp_path, test)


def test_nothing_is_promised_that_cannot_be_proven(tmp_path: Path) -> None:
    async def test(client: httpx.AsyncClient, it: Engine) -> None:
        refused = await client.post("/schedules", json={"id": "s", **SPEC})
        assert refused.json()["error"]["type"] == "durability_unavailable"
        assert [view.id for view in it.schedules.list()] == ["declared"]
        made = await client.post("/schedules", json={"id": "s", **SPEC, "ack": "async"})
        assert (made.status_code, made.json()["durable"]) == (201, False)

    serve(tmp_path, test)
