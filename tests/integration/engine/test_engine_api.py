"""The engine's HTTP API over a real engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

from node import RetryPolicy, activity, workflow
from node.api import create_api
from node.engine.application import collect
from node.engine.durability import Barrier, Outcome, Proof
from node.engine.engine import Engine, EngineConfig
from tests.integration.engine.openapi_checks import Checked


@activity
async def double(number: int) -> int:
    return 2 * number


@activity(retry=RetryPolicy(max_attempts=1))
async def broken() -> None:
    raise ValueError("too bad")


@workflow
async def doubled(number: int) -> dict[str, int]:
    return {"number": await double(number)}


@workflow
async def fails() -> None:
    await broken()


@workflow
async def sleeps() -> None:
    await workflow.sleep(3600)


APP = collect("app", [double, broken, doubled, fails, sleeps])


class Answers:
    """A barrier that answers with `outcome`, or never when it is None."""

    def __init__(self, outcome: Outcome | None = Outcome.DURABLE) -> None:
        self.outcome = outcome

    async def prove(self, sequence: int) -> Proof:
        if self.outcome is None:
            await asyncio.Event().wait()
            raise AssertionError
        return Proof(self.outcome)


Test = Callable[[httpx.AsyncClient, Engine], Coroutine[Any, Any, None]]


def serve(
    path: Path,
    test: Test,
    *,
    barrier: Barrier | None = None,
    authority: Callable[[], bool] = lambda: True,
) -> None:
    async def main() -> None:
        config = EngineConfig(
            path=path / "log.db", application=APP, tenant="acme", lineage="l", epoch=7, create=True
        )
        async with Engine(config, barrier=barrier, authority=authority) as engine:
            transport = Checked(create_api(engine, proof_timeout=0.05), APP)
            async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
                await test(client, engine)

    asyncio.run(main())


def test_start_and_result(tmp_path: Path) -> None:
    async def test(client: httpx.AsyncClient, engine: Engine) -> None:
        body = {"workflow": "doubled", "id": "a", "input": {"number": 4}}
        answer = await client.post("/executions", json=body)
        assert answer.status_code == 201
        assert answer.headers["litefleet-epoch"] == "7"
        found = answer.json()
        assert found["id"] == "a"
        assert found["workflow"] == "doubled"
        assert found["durable"] is True
        epoch, sequence = found["bookmark"].split(":")
        assert epoch == "7"
        assert 1 <= int(sequence) <= engine.sequence
        result = (await client.get("/executions/a/result?wait=10")).json()
        assert result == {
            "id": "a",
            "status": "completed",
            "result": {"number": 8},
            "durable": True,
            "bookmark": "7:4",
        }
        again = await client.post("/executions", json=body)
        assert (again.status_code, again.json()["status"]) == (200, "completed")
        other = await client.post("/executions", json={**body, "input": {"number": 5}})
        assert other.status_code == 409
        assert set(other.json()["error"]) == {"type", "message", "hint"}

    serve(tmp_path, test, barrier=Answers())


def test_reading(tmp_path: Path) -> None:
    async def test(client: httpx.AsyncClient, engine: Engine) -> None:
        for number in range(5):
            body = {"workflow": "doubled", "id": f"d{number}", "input": {"number": number}}
            await client.post("/executions", json=body)
            await client.get(f"/executions/d{number}/result?wait=10")
        for workflow_ in ("fails", "sleeps"):
            await client.post("/executions", json={"workflow": workflow_, "id": workflow_})
        failed = (await client.get("/executions/fails/result?wait=10")).json()
        assert failed["status"] == "failed"
        assert "too bad" in failed["error"]["message"]
        running = (await client.get("/executions/sleeps/result?wait=0.01")).json()
        assert running["status"] == "running"
        assert "result" not in running

        ids: list[str] = []
        page: dict[str, Any] = {"next": ""}
        while page["next"] is not None:
            given = {"limit": 3, "after": page["next"]} if page["next"] else {"limit": 3}
            page = (await client.get("/executions", params=given)).json()
            ids += [item["id"] for item in page["items"]]
        assert ids == ["d0", "d1", "d2", "d3", "d4", "fails", "sleeps"]
        listed = (await client.get("/executions?status=running")).json()["items"]
        assert [item["id"] for item in listed] == ["sleeps"]
        listed = (await client.get("/executions?workflow=doubled&status=completed")).json()
        assert len(listed["items"]) == 5

        shown = (await client.get("/executions/d3")).json()
        assert (shown["input"], shown["result"]) == ({"number": 3}, {"number": 6})
        events = (await client.get("/executions/d3/events")).json()["items"]
        assert [event["kind"] for event in events] == [
            "started",
            "step",
            "step_completed",
            "completed",
        ]
        assert events[1]["step"] == "double"
        assert events[1]["payload"] == {"number": 3}
        some = (await client.get("/executions/d3/events?limit=2")).json()
        assert len(some["items"]) == 2
        rest = (await client.get(f"/executions/d3/events?after={some['next']}")).json()
        assert some["items"] + rest["items"] == events

        status = (await client.get("/status")).json()
        assert (status["tenant"], status["lineage"], status["epoch"]) == ("acme", "l", 7)
        assert status["executions"] == {
            "running": 1,
            "completed": 5,
            "failed": 1,
            "cancelled": 0,
            "terminated": 0,
            "queued": 0,
            "diverged": 0,
            "parked": 0,
        }
        assert status["sequence"] == engine.sequence
        assert status["uptime"] >= 0

    serve(tmp_path, test, barrier=Answers())


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/executions", {"workflow": "nothing"}, 404),
        ("POST", "/executions", {"workflow": "doubled"}, 422),
        ("POST", "/executions", {"workflow": "doubled", "input": {"number": "x"}}, 422),
        ("POST", "/executions", {"workflow": "doubled", "inputs": {}}, 422),
        ("POST", "/executions", {"workflow": "sleeps", "id": "a/b"}, 422),
        ("POST", "/executions", {"workflow": "sleeps", "ack": "maybe"}, 422),
        ("POST", "/executions", ["no object"], 422),
        ("GET", "/executions/nothing", None, 404),
        ("GET", "/executions/nothing/result", None, 404),
        ("GET", "/executions/nothing/events", None, 404),
        ("GET", "/executions?limit=0", None, 422),
        ("GET", "/executions?after=x", None, 422),
        ("GET", "/executions?status=odd", None, 422),
        ("GET", "/nothing", None, 404),
        ("DELETE", "/executions", None, 405),
    ],
)
def test_errors(tmp_path: Path, method: str, path: str, body: Any, status: int) -> None:
    async def test(client: httpx.AsyncClient, engine: Engine) -> None:
        answer = await client.request(method, path, json=body)
        assert answer.status_code == status
        error = answer.json()["error"]
        assert set(error) == {"type", "message", "hint"}
        assert all(error.values())
        assert answer.headers["litefleet-epoch"] == "7"
        assert engine.sequence == 0

    serve(tmp_path, test, barrier=Answers())


def test_a_body_that_is_no_json_is_refused(tmp_path: Path) -> None:
    async def test(client: httpx.AsyncClient, engine: Engine) -> None:
        assert (await client.post("/executions", content=b"{")).status_code == 422

    serve(tmp_path, test, barrier=Answers())


@pytest.mark.parametrize("outcome", [None, Outcome.UNKNOWN, Outcome.TIMED_OUT, Outcome.FENCED])
def test_what_is_not_proven_is_not_answered_as_durable(
    tmp_path: Path, outcome: Outcome | None
) -> None:
    async def test(client: httpx.AsyncClient, engine: Engine) -> None:
        relaxed = {"workflow": "doubled", "input": {"number": 1}, "id": "a", "ack": "async"}
        answer = await client.post("/executions", json=relaxed)
        assert (answer.status_code, answer.json()["durable"]) == (201, False)
        assert answer.json()["bookmark"]
        await engine.result("a", wait=10)
        shown = (await client.get("/executions/a")).json()
        assert (shown["status"], shown["durable"]) == ("completed", False)
        result = await client.get("/executions/a/result?wait=10")
        if outcome is Outcome.FENCED:
            assert result.status_code == 503
        else:
            assert result.json()["durable"] is False
            assert result.json()["result"] == {"number": 2}
        body = {"workflow": "sleeps", "id": "b"}
        answer = await client.post("/executions", json=body)
        assert answer.status_code == 503
        assert answer.json()["outcome"] == "unknown"
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.headers["litefleet-epoch"] == "7"

    serve(tmp_path, test, barrier=Answers(outcome))


def test_an_engine_without_authority_answers_nothing_as_durable(tmp_path: Path) -> None:
    allowed = True

    async def test(client: httpx.AsyncClient, engine: Engine) -> None:
        nonlocal allowed
        body = {"workflow": "doubled", "input": {"number": 1}, "id": "a"}
        assert (await client.post("/executions", json=body)).status_code == 201
        assert (await client.get("/executions/a/result?wait=10")).json()["durable"] is True
        allowed = False
        assert (await client.post("/executions", json=body)).status_code == 503
        assert (await client.get("/executions/a/result")).status_code == 503
        assert (await client.get("/executions/a")).json()["durable"] is False
        relaxed = await client.get("/executions/a/result?ack=async")
        assert relaxed.json()["durable"] is False

    serve(tmp_path, test, barrier=Answers(), authority=lambda: allowed)


def test_without_a_barrier_durable_is_refused_and_not_pretended(tmp_path: Path) -> None:
    async def test(client: httpx.AsyncClient, engine: Engine) -> None:
        body = {"workflow": "doubled", "input": {"number": 1}, "id": "a"}
        refused = await client.post("/executions", json=body)
        assert refused.status_code == 422
        assert "async" in refused.json()["error"]["hint"]
        assert engine.sequence == 0
        assert (await client.post("/executions", json={**body, "ack": "async"})).status_code == 201
        assert (await client.get("/executions/a/result?wait=10")).json()["durable"] is False

    serve(tmp_path, test)


def test_a_closed_engine_answers_503(tmp_path: Path) -> None:
    async def test(client: httpx.AsyncClient, engine: Engine) -> None:
        await engine.close()
        for method, path in (("GET", "/executions"), ("GET", "/executions/a/result")):
            answer = await client.request(method, path)
            assert answer.status_code == 503
            assert answer.json()["outcome"] == "unknown"
        answer = await client.post("/executions", json={"workflow": "sleeps"})
        assert answer.status_code == 503

    serve(tmp_path, test, barrier=Answers())
