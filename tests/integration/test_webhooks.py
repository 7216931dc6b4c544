"""Webhooks through both gateways of the fleet, over real sockets: the sender has no token."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import uvicorn

import fleet.agent.api
import fleet.coordinator.api
from backup.ownership import TenantRecord
from fleet.gateway.gate import Gate
from fleet.gateway.holding import Standing, Way
from fleet.proxy import SENDER_HEADER, is_webhook
from fleet.settings import GatewaySettings
from node import Bearer, GitHub, Reply, Request, webhook, workflow
from node.api import create_api
from tests.integration.engine.harness import Proves, application, engine

TOKEN = "the fleet's"
ENVIRONMENT = {"GITHUB_SECRET": "ours", "BEARER": "theirs"}


@workflow
async def nothing() -> None:
    return None


@webhook("/github", verify=GitHub(secret_env="GITHUB_SECRET"))
def github(request: Request) -> Reply:
    headers = {name: request.headers.get(name) for name in ("x-odd", "content-type")}
    return Reply(200, {"body": request.body.hex(), "query": dict(request.query), **headers})


@webhook("/bearer", verify=Bearer(secret_env="BEARER"))
def bearer(request: Request) -> Reply:
    return Reply(200, request.headers["authorization"])


@asynccontextmanager
async def served(app: Any, listener: socket.socket) -> AsyncIterator[None]:
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.005)
    try:
        yield
    finally:
        server.should_exit = True
        await serving


def listen(path: Path | None = None) -> socket.socket:
    family = socket.AF_INET if path is None else socket.AF_UNIX
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0) if path is None else os.fspath(path))
    listener.listen()
    return listener


@asynccontextmanager
async def gateway(folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a coordinator with one tenant `first`, on one host."""
    api_socket, on_host = folder / "api.sock", listen()
    status = SimpleNamespace(serving=True, api_socket=str(api_socket), epoch=1)
    running = SimpleNamespace(status=status)
    agent: Any = SimpleNamespace(
        host="h",
        has_authority=True,
        nodes=SimpleNamespace(
            live=lambda tenant: running if tenant == "first" else None, running=lambda: [running]
        ),
    )
    way = Way(f"http://127.0.0.1:{on_host.getsockname()[1]}", "/first", 1)
    coordinator: Any = SimpleNamespace(
        tenants={"first": SimpleNamespace(wanted=TenantRecord(tenant="first", app="app"))},
        deletions=SimpleNamespace(gone={}),
        knows=True,
        gate=Gate(GatewaySettings(), lambda tenant: Standing(way, 1, coming=True)),
    )
    app = application(nothing, github, bearer)
    front = listen()
    async with (
        engine(folder, app, barrier=Proves()) as it,
        served(create_api(it, environment=ENVIRONMENT), listen(api_socket)),
        served(fleet.agent.api.create_app(agent, TOKEN), on_host),
        served(fleet.coordinator.api.create_app(coordinator, TOKEN), front),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{front.getsockname()[1]}") as client,
    ):
        yield client


async def raw(client: httpx.AsyncClient, path: str, *headers: str) -> int:
    """The status of a GET whose path nothing on this side has put in order."""
    url = client.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    lines = [f"GET {path} HTTP/1.1", "Host: x", "Connection: close", *headers, "", ""]
    writer.write("\r\n".join(lines).encode())
    answer = await reader.read()
    writer.close()
    return int(answer.split(b" ", 2)[1])


def test_a_webhook_comes_through_as_it_was_sent(tmp_path: Path) -> None:
    async def main() -> None:
        async with gateway(tmp_path) as client:
            body = bytes(range(256)) * 100
            signature = hmac.digest(b"ours", body, hashlib.sha256).hex()
            headers = {
                "X-Hub-Signature-256": f"sha256={signature}",
                "Content-Type": "x/odd; a=b",
                "X-Odd": "a,  b",
            }
            url = "/first/webhooks/github?a=%2F&b="
            found = await client.post(url, content=body, headers=headers)
            assert found.status_code == 200
            assert found.json() == {
                "body": body.hex(),
                "query": {"a": "/", "b": ""},
                "x-odd": "a,  b",
                "content-type": "x/odd; a=b",
            }
            assert found.headers["litefleet-epoch"] == "1"
            tampered = await client.post(url, content=body + b"x", headers=headers)
            assert tampered.status_code == 401

            async def chunks() -> AsyncIterator[bytes]:
                yield body[:1000]
                yield body[1000:]

            chunked = await client.post(url, content=chunks(), headers=headers)
            assert chunked.json()["body"] == body.hex()

    asyncio.run(main())


def test_a_senders_authorization_reaches_the_webhook_and_nothing_else(tmp_path: Path) -> None:
    async def main() -> None:
        async with gateway(tmp_path) as client:

            async def status(path: str, **headers: str) -> int:
                return (await client.post(path, headers=headers)).status_code

            hook = "/first/webhooks/bearer"
            given = await client.post(hook, headers={"Authorization": "Bearer theirs"})
            assert given.text == "Bearer theirs"
            assert await status(hook) == 401
            # The fleet's own token is not the tenant's to see.
            assert await status(hook, Authorization=f"Bearer {TOKEN}") == 401
            forged = {SENDER_HEADER: "Bearer theirs"}
            assert await status(hook, **forged) == 401
            assert await status("/second/webhooks/bearer") == 404
            for path in ("/first/executions", "/first/webhooks", "/api/tenants"):
                assert (await client.get(path)).status_code == 401
            known = {"Authorization": f"Bearer {TOKEN}"}
            assert (await client.get("/first/webhooks", headers=known)).status_code == 200

    asyncio.run(main())


WAYS_ROUND = [
    "/first/webhooks/../executions",
    "/first/webhooks/%2e%2e/executions",
    "/first/webhooks/%252e%252e/executions",
    "/first/webhooks/x/..%2f..%2fexecutions",
    "/first/webhooks/..;/executions",
    "/first/webhooks/%3f/../../executions",
    "/first/webhooks//../../executions",
    "/first//webhooks/../executions",
    "/first/webhooks/x%23/../../executions",
]


def test_no_path_leads_round_the_token(tmp_path: Path) -> None:
    async def main() -> None:
        async with gateway(tmp_path) as client:
            assert [await raw(client, path) for path in WAYS_ROUND] == [401] * len(WAYS_ROUND)
            # The same ways would be open to a gateway that looked at how a path begins.
            token = f"Authorization: Bearer {TOKEN}"
            assert 200 in [await raw(client, path, token) for path in WAYS_ROUND]

    asyncio.run(main())


@pytest.mark.parametrize("path", ["webhooks/a", "webhooks/a/b.c", "webhooks/A-1_/x"])
def test_what_a_webhooks_path_looks_like(path: str) -> None:
    assert is_webhook(path)
    for wrong in (f"/{path}", f"{path}/", f"{path}/..", f"x/{path}", f"{path}?", f"{path}%2e"):
        assert not is_webhook(wrong)
