"""Opening a log with many open executions, and replaying executions from it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from node.engine.beginning import Beginning
from node.engine.run import Run
from node.engine.store import Store
from tests.benchmarks import workloads
from tests.benchmarks.workloads import engine, held

#: One of so many goes on when the log is opened again; the others wait in their last activity.
PASSING = 100


async def measure(folder: Path, *, executions: int, steps: int) -> dict[str, Any]:
    """Make the log, end the engine, and open it again."""
    path = folder / "log.db"
    await _prepare(path, executions, steps)
    replay = _replay(path)
    first_commit: list[float] = []

    def on_commit(sequence: int, at: float) -> None:
        first_commit.append(time.perf_counter())

    held.clear()
    begun, used = time.perf_counter(), time.process_time()
    running = engine(path, on_commit=on_commit)
    await running.open()
    opened, used = time.perf_counter(), time.process_time() - used
    await _until(lambda: len(held) >= executions)
    everything = time.perf_counter()
    await running.close()
    return {
        "open_seconds": opened - begun,
        "open_processor_seconds": used,
        "first_activity_seconds": min(held) - begun,
        "first_commit_seconds": first_commit[0] - begun if first_commit else None,
        "all_going_seconds": everything - begun,
        **replay,
    }


async def _prepare(path: Path, executions: int, steps: int) -> None:
    async with engine(path) as running:
        for first in range(0, executions, 1000):
            await asyncio.gather(
                *(
                    running.start("held_up", {"steps": steps, "passes": False})
                    for _ in range(first, min(first + 1000, executions))
                )
            )
        await _until(lambda: len(held) >= executions)
    # The log has to be of executions that wait; on the next opening some of them pass.
    workloads.released.clear()
    _let_some_pass()


def _let_some_pass() -> None:
    async def hold(passes: bool) -> None:
        held.append(time.perf_counter())
        if len(held) % PASSING:
            await workloads.released.wait()

    workloads.hold.function = hold


def _replay(path: Path) -> dict[str, Any]:
    """Read and replay every open execution, as an opening does, without going on with them."""
    store = Store(path, tenant="bench", lineage="bench", create=False, now=lambda: 0)
    try:
        heads = store.heads()
        definition = workloads.held_up
        begun, used = time.perf_counter(), time.process_time()
        histories = [
            (stored, store.history(stored.id, heads[stored.rowid]))
            for stored in store.open_executions()
        ]
        read, read_used = time.perf_counter(), time.process_time()
        for stored, history in histories:
            run = Run(
                key=stored.id,
                workflow=definition,
                beginning=Beginning.of(history[0]),
                tenant="bench",
                lineage="bench",
            )
            run.replay(history)
            run.drop()
        replayed, replayed_used = time.perf_counter(), time.process_time()
    finally:
        store.close()
    events = sum(len(history) for _, history in histories)
    return {
        "events": events,
        "read_events_per_second": events / (read - begun),
        "replay_events_per_second": events / (replayed - read),
        "both_events_per_second": events / (replayed - begun),
        # What they would be if no other program were given the processor.
        "replay_events_per_processor_second": events / (replayed_used - read_used),
        "both_events_per_processor_second": events / (replayed_used - used),
    }


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(300):
        while not condition():
            await asyncio.sleep(0.005)
