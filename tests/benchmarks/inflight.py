"""Many executions open at once on one processor: memory, and whether all of them go on."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks.workloads import engine, progress

#: Seconds that each execution sleeps between two steps.
PAUSE = 5.0


async def measure(folder: Path, *, executions: int, seconds: float) -> dict[str, Any]:
    """Start them all and watch for `seconds`; the peak of this process's memory in MiB."""
    processor = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {processor})
    before = psutil.Process().memory_info().rss
    async with engine(folder / "log.db") as running:
        begun = time.perf_counter()
        await asyncio.gather(
            *(
                running.start("patient", {"execution": number, "rounds": 1000, "pause": PAUSE})
                for number in range(executions)
            )
        )
        started = time.perf_counter() - begun
        marks = [dict(progress)]
        # Twice: whoever made progress in both halves was not just let through once.
        for _ in range(2):
            await asyncio.sleep(seconds / 2)
            marks.append(dict(progress))
        open_now = running.counts["running"]
    going = sum(
        marks[0].get(number, 0) < marks[1].get(number, 0) < marks[2].get(number, 0)
        for number in range(executions)
    )
    return {
        "in_flight": open_now,
        "going_on": going,
        "steps": sum(marks[2].values()),
        "start_seconds": started,
        "memory_before": before / 2**20,
        "peak_memory": _peak() / 2**20,
    }


def _peak() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel does not tell the peak of memory")
