"""How long one step takes its workflow, with so many workflows at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.benchmarks.spread import percentiles
from tests.benchmarks.workloads import at_once, engine, latencies


async def measure(folder: Path, *, workflows: int, batches: int) -> dict[str, Any]:
    """p50 and p99 in milliseconds, over `batches` batches of ten-step workflows."""
    async with engine(folder / "log.db") as running:
        await at_once(running, workflows, "timed")
        latencies.clear()
        for _ in range(batches):
            await at_once(running, workflows, "timed")
    half, most = percentiles(latencies)
    return {"p50": half * 1000, "p99": most * 1000, "steps": len(latencies)}
