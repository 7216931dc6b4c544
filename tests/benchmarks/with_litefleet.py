"""Our engine, each round on a new log. Argument: a folder."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.serving import serve
from tests.benchmarks.workloads import STEPS, at_once, engine, one_after_another


async def contest(folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    """One round: `workflows` of ten steps in the shape asked for."""
    workflows = request["workflows"]
    with tempfile.TemporaryDirectory(dir=folder) as place:
        async with engine(Path(place) / "log.db") as running:
            if request["synchronous"] != "FULL":
                # The engine has no such setting, and shall not have one: done from outside.
                running._commits._writer._db.execute(f"PRAGMA synchronous={request['synchronous']}")
            shape = at_once if request["shape"] == "at once" else one_after_another
            await at_once(running, 1)
            seconds = await shape(running, workflows)
    return {"steps": workflows * STEPS, "seconds": seconds}


async def main(folder: Path) -> None:
    await serve(lambda request: contest(folder, request))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
