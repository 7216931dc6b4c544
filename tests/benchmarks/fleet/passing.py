"""What the way through the gateways adds to a request."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

import httpx

from tests.benchmarks.fleet.place import Stuck, place
from tests.benchmarks.spread import percentiles


async def measure(*, pairs: int) -> dict[str, Any]:
    """Milliseconds of one and the same read at the engine's socket, at its host and at the
    coordinator, in turn, and of the difference within each round."""
    async with place(1) as here, AsyncExitStack() as clients:
        await here.create(["busy"])
        await here.run("busy", "one")
        [node] = await here.nodes("host-1")
        headers = {"authorization": f"Bearer {here.fleet.token}"}
        host = here.fleet.hosts["host-1"].address
        direct = httpx.AsyncHTTPTransport(uds=node.api_socket, verify=False)
        ways = {
            "direct": httpx.AsyncClient(transport=direct, base_url="http://node", trust_env=False),
            "host": httpx.AsyncClient(base_url=f"{host}/busy", headers=headers, trust_env=False),
            "coordinator": httpx.AsyncClient(
                base_url=f"{here.fleet.address}/busy", headers=headers, trust_env=False
            ),
        }
        for way in ways.values():
            await clients.enter_async_context(way)
        for _ in range(20):
            await _round(ways)
        rounds = [await _round(ways, backwards=bool(number % 2)) for number in range(pairs)]
    added = [each["coordinator"] - each["direct"] for each in rounds]
    figures = {name: [each[name] for each in rounds] for name in ways} | {"added": added}
    return {
        name: dict(zip(("p50", "p99"), percentiles(values), strict=True))
        for name, values in figures.items()
    }


async def _round(
    ways: Mapping[str, httpx.AsyncClient], backwards: bool = False
) -> dict[str, float]:
    taken = {}
    names = list(ways)
    for name in reversed(names) if backwards else names:
        begun = time.perf_counter()
        answer = await ways[name].get("/executions", params={"limit": 1})
        taken[name] = (time.perf_counter() - begun) * 1000
        if not answer.is_success:
            raise Stuck(f"the {name}'s answer was {answer.status_code}")
    return taken
