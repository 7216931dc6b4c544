"""How long a request waits that comes to a tenant which sleeps."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx

from fleet.client import sleep_tenant
from tests.benchmarks.fleet.place import LOOK_EVERY, PATIENCE, Place, Stuck, place
from tests.benchmarks.spread import percentiles

TENANT = "sleeper"


async def measure(*, wakes: int) -> dict[str, Any]:
    """Put one tenant to sleep again and again, and ask it something each time, through the gateway.

    What it does before and its log's size are the same each time: a few executions.
    """
    async with place(2) as here:
        await here.create([TENANT])
        await here.serving([TENANT])
        for _ in range(3):
            await here.run(TENANT, "one")
        headers = {"authorization": f"Bearer {here.fleet.token}"}
        address = here.fleet.address.partition(",")[0]
        took = []
        async with httpx.AsyncClient(base_url=address, headers=headers, timeout=60) as http:
            for _ in range(wakes):
                await _asleep(here)
                began = time.perf_counter()
                answer = await http.get(f"/{TENANT}/status")
                took.append(time.perf_counter() - began)
                if answer.status_code != 200:
                    raise Stuck(f"a request that was to wake {TENANT} was answered {answer.text}")
    return {"wakes": wakes, **dict(zip(("p50", "p99"), percentiles(took), strict=True))}


async def _asleep(here: Place) -> None:
    await here.client.send(sleep_tenant(TENANT))
    ends = time.monotonic() + PATIENCE
    while (await here.client.tenant(TENANT)).state != "asleep":
        if time.monotonic() > ends:
            raise Stuck(f"{TENANT} does not fall asleep")
        await asyncio.sleep(LOOK_EVERY)
