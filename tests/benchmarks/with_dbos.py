"""DBOS on SQLite, in its own environment. Arguments: a folder, "defaults" or "WAL FULL"."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

from dbos import DBOS
from sqlalchemy import event
from sqlalchemy.engine import Engine

from tests.benchmarks.serving import serve

STEPS = 10


@DBOS.step()
async def noop(number: int) -> int:
    return number


@DBOS.workflow()
async def ten() -> int:
    total = 0
    for number in range(STEPS):
        total += await noop(number)
    return total


def wal_and_full(connection: Any, _record: Any) -> None:
    """What SQLAlchemy is told to do with each new connection."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


async def _run() -> None:
    handle = await DBOS.start_workflow_async(ten)
    await handle.get_result()


async def main(folder: Path, settings: str) -> None:
    if settings == "WAL FULL":
        event.listen(Engine, "connect", wal_and_full)
    DBOS(config={"name": "bench", "system_database_url": f"sqlite:///{folder / 'dbos.db'}"})
    DBOS.launch()
    await _run()

    async def answer(request: dict[str, Any]) -> dict[str, Any]:
        workflows = request["workflows"]
        begun = time.perf_counter()
        if request["shape"] == "at once":
            await asyncio.gather(*(_run() for _ in range(workflows)))
        else:
            for _ in range(workflows):
                await _run()
        return {"steps": workflows * STEPS, "seconds": time.perf_counter() - begun}

    await serve(answer)
    DBOS.destroy()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
