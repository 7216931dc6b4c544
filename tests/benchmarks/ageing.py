"""Whether an execution costs more in a log that already holds very many finished ones."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from node.engine.events import Kind
from node.engine.schema import connect
from node.engine.store import Store
from node.engine.writer import Batch, Entry, Writer
from tests.benchmarks.workloads import at_once, engine, one_after_another

#: Events in one commit while the log is made.
GROUP = 10_000


async def measure(folder: Path, *, finished: int, workflows: int, rounds: int) -> dict[str, Any]:
    """Seconds for `workflows` on a new log and on the full one, in turn."""
    young, old = folder / "young.db", folder / "old.db"
    _fill(young, 0)
    _fill(old, finished)
    begun = time.perf_counter()
    async with engine(old) as aged:
        opened = time.perf_counter() - begun
        async with engine(young) as fresh:
            ratios: dict[str, list[float]] = {"at once": [], "one after another": []}
            for _ in range(rounds):
                for name, shape in (("at once", at_once), ("one after another", one_after_another)):
                    new = await shape(fresh, workflows)
                    ratios[name].append(await shape(aged, workflows) / new)
    return {"finished": finished, "open_seconds": opened, "cost_ratios": ratios}


def _fill(path: Path, finished: int) -> None:
    """Write finished executions the way the engine does, through its writer."""
    store = Store(path, tenant="bench", lineage="bench", create=True, now=lambda: 1)
    failures: list[BaseException] = []
    writer = Writer(
        connect(path),
        store.tail,
        names=store.names(),
        heads={},
        on_committed=lambda batch: None,
        on_failed=failures.append,
    )
    writer.start()
    for first in range(1, finished + 1, GROUP // 2):
        batch = Batch(at=first)
        for number in range(first, min(first + GROUP // 2, finished + 1)):
            key = f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}"
            batch.entries += (
                Entry(number, key, Kind.STARTED, "ten", 1, "{}"),
                Entry(number, key, Kind.COMPLETED, "ten", 1, "45"),
            )
        writer.submit(batch)
    writer.close()
    store.close()
    if failures:
        raise failures[0]
