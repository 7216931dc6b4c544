"""Steps that wait for their intent to be proven, on a barrier that is only a delay."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from node.engine.durability import Outcome, Proof
from tests.benchmarks.workloads import engine


class DelayInsteadOfAStore:
    """A stand-in: it proves nothing, and answers after as long as a store would take."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.requests = 0

    async def prove(self, sequence: int) -> Proof:
        self.requests += 1
        await asyncio.sleep(self._seconds)
        return Proof(Outcome.DURABLE)


async def measure(folder: Path, *, writers: int, steps: int, latency: float) -> dict[str, Any]:
    """Barriers a second: steps whose intent was proven before they ran."""
    barrier = DelayInsteadOfAStore(latency)
    async with engine(folder / "log.db", barrier=barrier) as running:

        async def write() -> None:
            started = await running.start("proving", {"steps": steps})
            await running.result(started.view.id, wait=600)

        begun = time.perf_counter()
        await asyncio.gather(*(write() for _ in range(writers)))
        seconds = time.perf_counter() - begun
    return {
        "barriers_per_second": writers * steps / seconds,
        "requests_per_second": barrier.requests / seconds,
    }
