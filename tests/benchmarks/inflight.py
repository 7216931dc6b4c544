"""Many executions open at once on one processor: memory, whether all of them go on, and how soon
one of them hears a signal."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path
from random import Random
from typing import Any

import psutil

from node.engine.engine import Engine
from tests.benchmarks.spread import percentiles
from tests.benchmarks.workloads import engine, progress, woken

#: Seconds that each execution waits for a signal between two steps.
PAUSE = 5.0
#: Seconds between two signals.
SIGNAL_EVERY = 0.02


async def measure(folder: Path, *, executions: int, seconds: float) -> dict[str, Any]:
    """Start them all and watch for `seconds`; the peak of this process's memory in MiB."""
    processor = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {processor})
    before = psutil.Process().memory_info().rss
    async with engine(folder / "log.db") as running:
        begun = time.perf_counter()
        await asyncio.gather(
            *(
                running.start(
                    "patient",
                    {"execution": number, "rounds": 1000, "pause": PAUSE},
                    id=str(number),
                )
                for number in range(executions)
            )
        )
        started = time.perf_counter() - begun
        marks = [dict(progress)]
        # Twice: whoever made progress in both halves was not just let through once.
        sender = _Sender(running, executions)
        sender.start()
        for _ in range(2):
            await asyncio.sleep(seconds / 2)
            marks.append(dict(progress))
        sender.end()
        await asyncio.to_thread(sender.join)
        delays = sender.delays
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
        "signals": len(delays),
        "signal_p50": percentiles(delays)[0] * 1000,
        "signal_p99": percentiles(delays)[1] * 1000,
    }


class _Sender(threading.Thread):
    """Sends signals to executions that wait for one, from outside of the engine's loop: what the
    loop has in hand when a signal comes is part of its delay."""

    def __init__(self, running: Engine, executions: int) -> None:
        super().__init__(daemon=True)
        self.delays: list[float] = []
        """Seconds from the sending to the moment in which the workflow's code went on."""
        self._running = running
        self._executions = executions
        self._loop = asyncio.get_running_loop()
        self._over = threading.Event()

    def run(self) -> None:
        chance = Random(1)
        while not self._over.wait(SIGNAL_EVERY):
            number = chance.randrange(self._executions)
            begun = time.perf_counter()
            sent = asyncio.run_coroutine_threadsafe(self._send(number), self._loop)
            if not sent.result():
                continue
            while woken.get(number, 0) < begun:
                time.sleep(0.0005)
            self.delays.append(woken[number] - begun)

    async def _send(self, number: int) -> bool:
        if not any(wait.kind == "signal" for wait in self._running.waiting(str(number))):
            return False
        await self._running.signal(str(number), "go")
        return True

    def end(self) -> None:
        self._over.set()


def _peak() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel does not tell the peak of memory")
