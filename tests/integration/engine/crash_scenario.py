"""An activity that kills the process it runs in."""

from __future__ import annotations

import os
import signal

from node import ActivityFailed, RetryPolicy, activity, workflow
from node.engine.application import collect
from node.engine.engine import Engine
from tests.integration.engine.engine_app import record

LIMIT = 3


@activity(retry=RetryPolicy(max_interruptions=LIMIT))
async def deadly() -> None:
    record("crash")
    os.kill(os.getpid(), signal.SIGKILL)


@workflow
async def work() -> str:
    try:
        await deadly()
    except ActivityFailed as error:
        return error.type
    return "?"


APP = collect("crash", [deadly, work])


async def drive(engine: Engine) -> None:
    await engine.start("work", {}, id="a")
    await engine.result("a", wait=30)
