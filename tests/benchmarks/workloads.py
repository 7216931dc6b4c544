"""The workflows that are measured, and the engine that runs them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from node import activity, workflow
from node.engine.application import Application, collect
from node.engine.durability import Barrier, Durability
from node.engine.engine import Engine, EngineConfig

STEPS = 10
#: A clock that workflows may read here: what it says decides nothing.
stopwatch: Final = partial(time.perf_counter)
#: How long each step of `timed` took its workflow, in seconds. Not part of what it computes.
latencies: list[float] = []
#: Set to let go of the executions that wait in `hold`.
released = asyncio.Event()
#: When `hold` was called, in seconds of the monotonic clock.
held: list[float] = []
#: How many steps each execution of `patient` has done.
progress: dict[int, int] = {}
#: When each execution of `patient` was last woken by a signal, in seconds of the stopwatch.
woken: dict[int, float] = {}


@activity
async def noop(number: int) -> int:
    return number


@activity(durability=Durability.BEFORE_EFFECTS)
async def proven(number: int) -> int:
    return number


@activity
async def hold(passes: bool) -> None:
    held.append(time.perf_counter())
    if not passes:
        await released.wait()


@activity
async def mark(execution: int) -> int:
    progress[execution] = progress.get(execution, 0) + 1
    return progress[execution]


@workflow
async def ten() -> int:
    total = 0
    for number in range(STEPS):
        total += await noop(number)
    return total


@workflow
async def timed() -> None:
    for number in range(STEPS):
        begun = stopwatch()
        await noop(number)
        latencies.append(stopwatch() - begun)


@workflow
async def proving(steps: int) -> None:
    for number in range(steps):
        await proven(number)


@workflow
async def held_up(steps: int, passes: bool) -> None:
    for number in range(steps):
        await noop(number)
    await hold(passes)


@workflow
async def patient(execution: int, rounds: int, pause: float) -> None:
    for _ in range(rounds):
        await mark(execution)
        try:
            await workflow.receive("go", timeout=pause)
        except TimeoutError:
            continue
        woken[execution] = stopwatch()


PLAIN = (noop, hold, mark, ten, timed, held_up, patient)


def application(*, with_proofs: bool = False) -> Application:
    """Everything above that an engine without a barrier takes, or all of it."""
    return collect("benchmarks", (*PLAIN, proven, proving) if with_proofs else PLAIN)


def engine(
    path: Path,
    *,
    barrier: Barrier | None = None,
    on_commit: Callable[[int, float], None] | None = None,
) -> Engine:
    """The engine as a tenant gets it, on a new log or on the one that is there."""
    config = EngineConfig(
        path=path,
        application=application(with_proofs=barrier is not None),
        tenant="bench",
        lineage="bench",
        create=not path.exists(),
    )
    return Engine(config, barrier=barrier, on_commit=on_commit)


async def one_after_another(engine: Engine, workflows: int) -> float:
    """Seconds for so many `ten`, each started when the one before it is finished."""
    begun = time.perf_counter()
    for _ in range(workflows):
        await _run(engine, "ten")
    return time.perf_counter() - begun


async def at_once(engine: Engine, workflows: int, name: str = "ten") -> float:
    """Seconds for so many, all started together."""
    begun = time.perf_counter()
    await asyncio.gather(*(_run(engine, name) for _ in range(workflows)))
    return time.perf_counter() - begun


async def _run(engine: Engine, name: str) -> None:
    started = await engine.start(name, {})
    view = await engine.result(started.view.id, wait=600)
    if view.status != "completed":
        raise RuntimeError(f"a measured workflow ended as {view.status}: {view.error}")
