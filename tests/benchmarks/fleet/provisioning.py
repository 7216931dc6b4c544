"""How fast tenants are made, and how soon a new one has done something."""

from __future__ import annotations

import time
from typing import Any

from tests.benchmarks.fleet.place import place
from tests.benchmarks.spread import percentiles


async def measure(*, hosts: int, together: int, alone: int) -> dict[str, Any]:
    """Tenants a second, from the first request until all of ``together`` serve; and the seconds
    from the request for one tenant to the result of its first execution, ``alone`` times."""
    async with place(hosts) as here:
        await here.create(["first"])  # the hosts are warm, as those of a running fleet are
        await here.run("first", "one")
        begun = time.monotonic()
        names = [f"together-{number}" for number in range(together)]
        await here.create(names)
        created = time.monotonic() - begun
        await here.serving(names)
        served = time.monotonic() - begun
        waits = []
        for number in range(alone):
            begun = time.monotonic()
            await here.create([f"alone-{number}"])
            await here.run(f"alone-{number}", "one")
            waits.append(time.monotonic() - begun)
    p50, p99 = percentiles(waits)
    return {
        "created_per_second": together / created,
        "provisions_per_second": together / served,
        "first_workflow_p50": p50,
        "first_workflow_p99": p99,
    }
