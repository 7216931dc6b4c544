"""A process that runs an engine, starts executions, and may kill itself after some commits.

Arguments: the folder, how many executions, after how many commits to die (0: never), and
"forced" for forced replay.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from node.engine.application import load_app
from node.engine.engine import Engine, EngineConfig


async def main(folder: Path, executions: int, die_after: int, forced: bool) -> None:
    path = folder / "log.db"
    commits = 0

    def on_commit(sequence: int, at: float) -> None:
        nonlocal commits
        commits += 1
        if commits == die_after:
            os.kill(os.getpid(), signal.SIGKILL)

    engine = Engine(
        EngineConfig(
            path=path,
            application=load_app("tests.integration.engine.engine_app"),
            tenant="acme",
            lineage="line",
            create=not path.exists(),
            forced_replay=forced,
        ),
        on_commit=on_commit,
    )
    async with engine:
        ids = [f"order-{number}" for number in range(executions)]
        await asyncio.gather(
            *(engine.start("order", {"names": ["pen", "ink", id]}, id=id) for id in ids)
        )
        await asyncio.gather(*(engine.result(id, wait=60) for id in ids))


if __name__ == "__main__":
    folder, executions, die_after, *more = sys.argv[1:]
    asyncio.run(main(Path(folder), int(executions), int(die_after), "forced" in more))
