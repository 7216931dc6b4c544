"""The gateway of a real fleet: what is asked while a host is lost is answered, and once."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections import Counter
from pathlib import Path

import httpx
import psutil
import pytest

from fleet.client import AsyncClient, sleep_tenant
from fleet.local import LocalFleet, LocalSettings, until
from fleet.settings import GatewaySettings

APPS = Path(__file__).resolve().parents[1] / "apps"
BEFORE, DURING = 5, 30
"""Requests that are sent before and after the host is lost."""


async def asked(http: httpx.AsyncClient, id: str | None) -> tuple[str | None, httpx.Response]:
    """Start an execution, once: whoever asks does not repeat it."""
    start = {"workflow": "count", "input": {"steps": 1}} | ({"id": id} if id else {})
    return id, await http.post("/acme/executions", json=start)


async def executions(client: AsyncClient) -> list[str]:
    return [one.id for one in await client.executions("acme")]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_requests_sent_while_a_host_is_lost_are_all_answered(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(APPS))

    async def whole(folder: Path) -> None:
        gateway = GatewaySettings(hold_seconds=90)
        settings = LocalSettings(name="test", folder=folder, hosts=2, gateway=gateway)
        async with LocalFleet(settings) as fleet, fleet.client() as client:
            headers = {"authorization": f"Bearer {fleet.token}"}
            http = httpx.AsyncClient(base_url=fleet.address, headers=headers, timeout=150)
            await client.create_tenant("acme", "counting", "async", {"MARKS": str(folder / "m")})
            host = None

            async def serving() -> bool:
                nonlocal host
                tenant = await client.tenant("acme")
                host = tenant.host
                return tenant.serving

            assert await until(serving, 45)
            assert host is not None
            machine = fleet.hosts[host].machine
            tasks = []
            for number in range(BEFORE + DURING):
                if number == BEFORE:
                    if how == "kill":
                        machine.kill()
                    else:
                        machine.freeze()
                tasks.append(asyncio.create_task(asked(http, f"id-{number}")))
                tasks.append(asyncio.create_task(asked(http, None)))
                await asyncio.sleep(0.1)
            answers = await asyncio.gather(*tasks)
            named = [answer for id, answer in answers if id is not None]
            # Sending one of these twice does no harm: every one has its answer.
            assert {answer.status_code for answer in named} <= {200, 201}
            started = [answer for id, answer in answers if id is None]
            codes = Counter(answer.status_code for answer in started)
            assert set(codes) <= {201, 503}
            # Of those that were on their way to the host when it was lost nobody knows.
            assert {a.json()["outcome"] for a in started if a.status_code == 503} <= {"unknown"}
            there = await executions(client)
            assert {f"id-{n}" for n in range(BEFORE + DURING)} <= set(there)
            others = {id for id in there if not id.startswith("id-")}
            assert {a.json()["id"] for a in started if a.status_code == 201} <= others
            assert codes[201] <= len(others) <= len(started)
            tenant = await client.tenant("acme")
            assert (tenant.epoch, tenant.host != host) == (2, True)
            metrics = (await http.get("/metrics")).text
            assert 'litefleet_gateway_held{tenant="acme"} 0' in metrics
            await http.aclose()

    with tempfile.TemporaryDirectory(prefix="litefleet-test-") as folder:
        asyncio.run(whole(Path(folder)))
    assert not [
        process.info["cmdline"]
        for process in psutil.process_iter(["cmdline"])
        if folder in " ".join(process.info["cmdline"] or [])
    ]


@pytest.mark.slow
def test_every_host_is_a_way_in_to_every_tenant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(APPS))

    async def whole(folder: Path) -> None:
        settings = LocalSettings(name="test", folder=folder, hosts=2)
        async with LocalFleet(settings) as fleet, fleet.client() as client:
            headers = {"authorization": f"Bearer {fleet.token}"}
            await client.create_tenant("acme", "counting", "async", {"MARKS": str(folder / "m")})
            async with contextlib.AsyncExitStack() as stack:
                ways = {
                    name: await stack.enter_async_context(
                        httpx.AsyncClient(base_url=host.address, headers=headers, timeout=60)
                    )
                    for name, host in fleet.hosts.items()
                }
                # Asked at once: both hold it until somebody serves the tenant.
                first = await asyncio.gather(*(asked(way, name) for name, way in ways.items()))
                assert [answer.status_code for _, answer in first] == [201, 201]
                there = (await client.tenant("acme")).host
                other = next(way for name, way in ways.items() if name != there)
                # One that sleeps is woken by what is held at a host.
                await client.send(sleep_tenant("acme"))

                async def asleep() -> bool:
                    return (await client.tenant("acme")).state == "asleep"

                assert await until(asleep, 45)
                answer = await other.get("/acme/executions")
                assert answer.headers["litefleet-epoch"] == "2"
                assert len(answer.json()["items"]) == 2
                for way in ways.values():
                    assert (await way.get("/acme/executions")).status_code == 200
                assert (await other.get("/nobody/executions")).status_code == 404
                # What one gateway has passed on, another one does not pass on again.
                passed = {"litefleet-passed": "1"}
                codes = [
                    (await way.get("/acme/executions", headers=passed)).status_code
                    for way in ways.values()
                ]
                assert sorted(codes) == [200, 503]
                metrics = (await other.get("/metrics")).text
                assert 'litefleet_gateway_held{tenant="acme"} 0' in metrics

    with tempfile.TemporaryDirectory(prefix="litefleet-test-") as folder:
        asyncio.run(whole(Path(folder)))
