"""A process that opens a log, drives a scenario, and may kill itself after some commits.

Arguments: the folder, the module with APP, `drive(engine)` and perhaps
OBSERVER, after how many commits to die
(0: never), and cached, forced or every_commit.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import sys
from pathlib import Path

from node.engine.durability import Durability
from node.engine.engine import Engine, EngineConfig
from tests.integration.engine.harness import Proves


async def main(folder: Path, module: str, die_after: int, mode: str) -> None:
    path = folder / "log.db"
    commits = 0

    def on_commit(sequence: int, at: float) -> None:
        nonlocal commits
        commits += 1
        if commits == die_after:
            os.kill(os.getpid(), signal.SIGKILL)

    scenario = importlib.import_module(module)
    config = EngineConfig(
        path=path,
        application=scenario.APP,
        tenant="acme",
        lineage="line",
        create=not path.exists(),
        forced_replay=mode == "forced",
        durability=Durability.EVERY_COMMIT if mode == "every_commit" else Durability.ASYNC,
    )
    observer = getattr(scenario, "OBSERVER", None)
    async with Engine(config, on_commit=on_commit, barrier=Proves(), observer=observer) as engine:
        await scenario.drive(engine)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]))
