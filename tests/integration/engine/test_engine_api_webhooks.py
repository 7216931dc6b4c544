"""Webhooks over HTTP: what they start and signal, and what a sender is told."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

from node import GitHub, Ignore, Reply, Request, Send, Start, Unsigned, webhook, workflow
from node.api import create_api
from node.engine.durability import Barrier
from node.engine.engine import Engine
from node.testing.barrier import MemoryBarrier
from tests.integration.engine.harness import Proves, application, engine
from tests.integration.engine.openapi_checks import Checked

SECRET = "a secret"


@workflow
async def build(number: int) -> int:
    return number * 2


@workflow
async def listens() -> list[int]:
    return [await workflow.receive("go"), await workflow.receive("go")]


@webhook("/github/push", verify=GitHub(secret_env="GITHUB_SECRET"), max_body=100)
def push(request: Request) -> Start | Ignore:
    number = request.json(dict[str, int])["number"]
    return Start(build, {"number": number}) if number else Ignore("nothing to build")


@webhook("/waits", verify=Unsigned(), delivery="X-Id", wait_result=5)
def waits(request: Request) -> list[Start]:
    return [Start("build", {"number": 1}), Start(build, {"number": 2})]


@webhook("/go", verify=Unsigned(), delivery="X-Id", ack="async")
def go(request: Request) -> list[Send | Reply]:
    return [Send("l", "go", int(request.query["value"])), Reply(200, {"text": "going"})]


@webhook("/broken", verify=Unsigned())
def broken(request: Request) -> Start:
    if request.query:
        return Start(build, {"number": "the secret of the tenant"})
    raise ValueError("the secret of the tenant")


@webhook("/broken", verify=Unsigned(), method="GET")
def hello(request: Request) -> Reply:
    return Reply(200, request.query["challenge"])


def signed(number: int, delivery: str, *, secret: str = SECRET) -> dict[str, Any]:
    body = b'{"number": %d}' % number
    signature = hmac.digest(secret.encode(), body, hashlib.sha256).hex()
    return {
        "content": body,
        "headers": {"x-hub-signature-256": f"sha256={signature}", "x-github-delivery": delivery},
    }


Test = Callable[[httpx.AsyncClient, Engine], Coroutine[Any, Any, None]]


def serve(
    path: Path, test: Test, *, barrier: Barrier | None = None, secret: str | None = SECRET
) -> None:
    async def main() -> None:
        app = application(build, listens, push, waits, go, broken, hello)
        async with engine(path, app, barrier=barrier) as it:
            environment = {} if secret is None else {"GITHUB_SECRET": secret}
            transport = Checked(create_api(it, proof_timeout=0.05, environment=environment), app)
            async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
                await test(client, it)

    asyncio.run(main())


def test_a_delivery_starts_once_however_often_it_comes(tmp_path: Path) -> None:
    async def test(client: httpx.AsyncClient, it: Engine) -> None:
        url = "/webhooks/github/push"
        first = await client.post(url, **signed(4, "d1"))
        assert first.status_code == 202
        assert first.json()["execution"] == "github:push:d1"
        assert (first.json()["existing"], first.json()["durable"]) == (False, True)
        again = await asyncio.gather(*(client.post(url, **signed(4, "d1")) for _ in range(5)))
        assert {(one.status_code, one.json()["existing"]) for one in again} == {(202, True)}
        # After a change of the code, the same delivery can come to mean something else.
        other = await client.post(url, **signed(5, "d1"))
        assert (other.status_code, other.json()["existing"]) == (202, True)
        assert (await it.result("github:push:d1", wait=5)).input == {"number": 4}
        idle = await client.post(url, **signed(0, "d2"))
        assert (idle.status_code, idle.json()) == (202, {"ignored": "nothing to build"})
        assert len(it.executions()) == 1

    serve(tmp_path, test, barrier=Proves())


def test_it_is_there_after_a_restart(tmp_path: Path) -> None:
    async def first(client: httpx.AsyncClient, it: Engine) -> None:
        await client.post("/webhooks/github/push", **signed(4, "d1"))

    async def second(client: httpx.AsyncClient, it: Engine) -> None:
        again = await client.post("/webhooks/github/push", **signed(4, "d1"))
        assert again.json()["existing"] is True

    serve(tmp_path, first, barrier=Proves())
    serve(tmp_path, second, barrier=Proves())


def test_what_is_refused_leaves_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test(client: httpx.AsyncClient, it: Engine) -> None:
        url = "/webhooks/github/push"

        async def told(**request: Any) -> tuple[int, str]:
            answer = await client.post(request.pop("url", url), **request)
            assert "secret of the tenant" not in answer.text
            return answer.status_code, answer.json()["error"]["type"]

        assert await told(**signed(4, "d", secret="other")) == (401, "webhook_refused")
        assert await told(content=b"{") == (401, "webhook_refused")
        tampered = {**signed(4, "d"), "content": b'{"number": 5}'}
        assert await told(**tampered) == (401, "webhook_refused")
        assert await told(content=b"x" * 101) == (413, "webhook_too_large")

        async def endless() -> Any:
            for _ in range(1000):
                yield b"x" * 50

        assert await told(content=endless()) == (413, "webhook_too_large")
        body = b"not json"
        good = hmac.digest(SECRET.encode(), body, hashlib.sha256).hex()
        unreadable = {"content": body, "headers": {"x-hub-signature-256": f"sha256={good}"}}
        assert await told(**unreadable) == (400, "webhook_unreadable")
        assert await told(url="/webhooks/broken") == (500, "webhook_failed")
        assert await told(url="/webhooks/broken?unfit=1") == (500, "webhook_failed")
        assert await told(url="/webhooks/nothing") == (404, "unknown_webhook")
        assert await told(url="/webhooks/go?value=1") == (404, "unknown_execution")
        assert (await client.put(url)).status_code == 405
        assert it.executions() == []

    with caplog.at_level(logging.WARNING):
        serve(tmp_path, test, barrier=Proves())
    assert "webhook /github/push refused a request" in caplog.text
    assert "the function of webhook /broken failed" in caplog.text


@pytest.mark.parametrize("secret", [None, ""])
def test_without_a_secret_it_is_shut(
    tmp_path: Path, secret: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(client: httpx.AsyncClient, it: Engine) -> None:
        answer = await client.post("/webhooks/github/push", **signed(4, "d", secret=""))
        assert answer.status_code == 503
        assert answer.json()["error"]["type"] == "webhook_secret_missing"
        assert "GITHUB_SECRET" not in answer.text
        items = (await client.get("/webhooks")).json()["items"]
        assert [one["path"] for one in items if one["trouble"]] == ["/webhooks/github/push"]
        assert it.executions() == []

    serve(tmp_path, test, barrier=Proves(), secret=secret)
    assert "no secret is set in GITHUB_SECRET" in caplog.text


def test_signals_and_results(tmp_path: Path) -> None:
    async def test(client: httpx.AsyncClient, it: Engine) -> None:
        await it.start("listens", {}, id="l")
        for delivery, value in (("a", 1), ("a", 1), ("b", 2), ("b", 2)):
            sent = await client.post(f"/webhooks/go?value={value}", headers={"x-id": delivery})
            assert (sent.status_code, sent.json()) == (200, {"text": "going"})
        assert (await it.result("l", wait=5)).result == [1, 2]
        # The sender did not hear of it, and the execution has ended meanwhile.
        late = await client.post("/webhooks/go?value=2", headers={"x-id": "b"})
        assert late.status_code == 200
        waited = await client.post("/webhooks/waits", headers={"x-id": "a/b"})
        items = waited.json()["items"]
        assert (waited.status_code, [one["result"] for one in items]) == (200, [2, 4])
        assert items[1]["execution"] == items[0]["execution"] + "~1"
        challenge = await client.get("/webhooks/broken?challenge=abc")
        assert (challenge.status_code, challenge.text) == (200, "abc")

    serve(tmp_path, test, barrier=Proves())


def test_what_cannot_be_proven_is_not_acknowledged(tmp_path: Path) -> None:
    barrier = MemoryBarrier()

    async def test(client: httpx.AsyncClient, it: Engine) -> None:
        barrier.hold()
        answer = await client.post("/webhooks/github/push", **signed(4, "d1"))
        assert (answer.status_code, answer.json()["error"]["type"]) == (503, "unproven")
        barrier.release()
        again = await client.post("/webhooks/github/push", **signed(4, "d1"))
        assert (again.status_code, again.json()["existing"]) == (202, True)

    serve(tmp_path, test, barrier=barrier)


def test_without_a_supervisor_only_async_ones_answer(tmp_path: Path) -> None:
    async def test(client: httpx.AsyncClient, it: Engine) -> None:
        refused = await client.post("/webhooks/github/push", **signed(4, "d1"))
        assert refused.json()["error"]["type"] == "durability_unavailable"
        assert it.executions() == []
        await it.start("listens", {}, id="l")
        assert (await client.post("/webhooks/go?value=1")).status_code == 200

    serve(tmp_path, test)
