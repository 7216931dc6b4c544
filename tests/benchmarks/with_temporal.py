"""Temporal's dev server on a SQLite file, in its own environment. Argument: a folder."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio import activity, workflow
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from tests.benchmarks.serving import serve

STEPS = 10


@activity.defn
async def noop(number: int) -> int:
    return number


@workflow.defn
class Ten:
    @workflow.run
    async def run(self) -> int:
        total = 0
        for number in range(STEPS):
            total += await workflow.execute_activity(
                noop, number, start_to_close_timeout=timedelta(seconds=30)
            )
        return total


async def main(folder: Path) -> None:
    server = shutil.which("temporal", path=str(Path(sys.executable).parent))
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=server,
        dev_server_database_filename=str(folder / "temporal.db"),
        dev_server_log_level="error",
    ) as environment:
        client = environment.client

        async def run() -> None:
            await client.execute_workflow(Ten.run, id=str(uuid.uuid4()), task_queue="bench")

        async def answer(request: dict[str, Any]) -> dict[str, Any]:
            workflows = request["workflows"]
            begun = time.perf_counter()
            if request["shape"] == "at once":
                await asyncio.gather(*(run() for _ in range(workflows)))
            else:
                for _ in range(workflows):
                    await run()
            return {"steps": workflows * STEPS, "seconds": time.perf_counter() - begun}

        async with Worker(
            client,
            task_queue="bench",
            workflows=[Ten],
            activities=[noop],
            workflow_runner=UnsandboxedWorkflowRunner(),
        ):
            await run()
            await serve(answer)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
