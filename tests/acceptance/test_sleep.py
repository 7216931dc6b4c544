"""Tenants with nothing to do are put to sleep, cost nothing, and wake for whatever comes."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import psutil
import pytest

from fleet.client import AsyncClient
from fleet.local import LocalFleet, LocalSettings, until
from fleet.settings import SleepSettings
from fleet.views import TenantView

APPS = Path(__file__).resolve().parents[1] / "apps"
SECRET = "the sender's"
AFTER = 2.0
"""Seconds with nothing to do after which tenants are put to sleep here."""

Scenario = Callable[[LocalFleet, AsyncClient, httpx.AsyncClient], Awaitable[None]]


def play(scenario: Scenario, monkeypatch: pytest.MonkeyPatch, sleep: SleepSettings) -> None:
    monkeypatch.setenv("PYTHONPATH", str(APPS))

    async def whole(folder: Path) -> None:
        settings = LocalSettings(name="test", folder=folder, hosts=2, sleep=sleep)
        async with LocalFleet(settings) as fleet, fleet.client() as client:
            headers = {"authorization": f"Bearer {fleet.token}"}
            async with httpx.AsyncClient(
                base_url=fleet.address, headers=headers, timeout=60
            ) as http:
                await scenario(fleet, client, http)

    with tempfile.TemporaryDirectory(prefix="litefleet-test-") as folder:
        asyncio.run(whole(Path(folder)))
    assert processes(folder) == []


def processes(mark: str) -> list[str]:
    """The processes whose command or folder has ``mark`` in it."""
    found = []
    for process in psutil.process_iter(["pid"]):
        try:
            words = [*process.cmdline(), process.cwd()]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(mark in word for word in words):
            found.append(f"{process.pid} {' '.join(words)[:200]}")
    return found


async def reaches(client: AsyncClient, name: str, state: str) -> TenantView:
    async def there() -> bool:
        return (await client.tenant(name)).state == state

    assert await until(there, 60.0), f"{name} is never {state}: {await client.tenant(name)}"
    return await client.tenant(name)


async def start(
    http: httpx.AsyncClient, tenant: str, workflow: str, id: str, **given: float
) -> None:
    answer = await http.post(
        f"/{tenant}/executions", json={"workflow": workflow, "id": id, "input": given}
    )
    assert answer.status_code in (200, 201), answer.text


async def result(http: httpx.AsyncClient, tenant: str, id: str) -> object:
    return (await http.get(f"/{tenant}/executions/{id}/result", params={"wait": 30})).json()[
        "result"
    ]


@pytest.mark.slow
def test_an_idle_tenant_sleeps_and_a_timer_a_webhook_and_a_request_wake_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(fleet: LocalFleet, client: AsyncClient, http: httpx.AsyncClient) -> None:
        await client.create_tenant("acme", "sleeping", "async", {"SECRET": SECRET})
        await start(http, "acme", "wait", "waiting")
        begun = time.time()
        await start(http, "acme", "nap", "napping", seconds=20.0)
        # Nobody asks for anything: it is put to sleep with both of them open.
        asleep = await reaches(client, "acme", "asleep")
        assert asleep.next_wake is not None
        assert begun + 19 < asleep.next_wake < begun + 30
        await gone(fleet, "acme")
        awake = await reaches(client, "acme", "active")
        assert time.time() >= asleep.next_wake
        assert awake.epoch == 2
        assert await result(http, "acme", "napping") == "rested"
        # What waits for a message is no reason to be awake, and a webhook wakes it.
        asleep = await reaches(client, "acme", "asleep")
        assert asleep.next_wake is None
        async with httpx.AsyncClient(base_url=fleet.address, timeout=60) as sender:
            sent = await sender.post(
                "/acme/webhooks/go", json="now", headers={"authorization": f"Bearer {SECRET}"}
            )
        assert sent.status_code == 202
        assert await result(http, "acme", "waiting") == "now"
        # Requests that come while it falls asleep are held and answered.
        for round in range(3):
            await reaches(client, "acme", "active")

            async def falling() -> bool:
                return (await client.tenant("acme")).asleep

            assert await until(falling, 60.0)
            for number in range(5):
                await start(http, "acme", "nap", f"late-{round}-{number}", seconds=0.0)
            for number in range(5):
                assert await result(http, "acme", f"late-{round}-{number}") == "rested"
        kinds = [entry.kind for entry in await client.timeline()]
        assert kinds.count("sleep_wanted") >= 5
        assert "tenant_recovered" not in kinds

    play(scenario, monkeypatch, SleepSettings(after=AFTER, least=5.0))


async def gone(fleet: LocalFleet, tenant: str) -> None:
    """Wait until no process of the tenant's is left."""

    async def none() -> bool:
        return not processes(f"{fleet.settings.folder}") or not any(
            f"/{tenant}/" in each for each in processes(f"{fleet.settings.folder}")
        )

    assert await until(none, 30.0), processes(f"{fleet.settings.folder}")


@pytest.mark.slow
def test_who_has_work_or_shall_not_sleep_stays_awake(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(fleet: LocalFleet, client: AsyncClient, http: httpx.AsyncClient) -> None:
        for name in ("idle", "soon", "never"):
            await client.create_tenant(name, "sleeping", "async", {"SECRET": SECRET})
            await start(http, name, "wait", "waiting")
        await start(http, "soon", "nap", "napping", seconds=40.0)
        answer = await http.patch("/api/tenants/never", json={"sleep_after": 0})
        assert (answer.status_code, answer.json()["sleep_after"]) == (200, 0)
        await reaches(client, "idle", "asleep")
        await asyncio.sleep(2 * AFTER + 4)
        views = {name: await client.tenant(name) for name in ("soon", "never")}
        assert {name: view.state for name, view in views.items()} == {
            "soon": "active",
            "never": "active",
        }
        answer = await http.patch("/api/tenants/never", json={"sleep_after": None})
        await reaches(client, "never", "asleep")

    play(scenario, monkeypatch, SleepSettings(after=AFTER, least=60.0))
