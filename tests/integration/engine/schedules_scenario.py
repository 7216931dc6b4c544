"""Schedules of an application and of an operator: ticks, a trigger, a backfill, another spec.

Its clock goes eight hours a second, through all lives, once everything is made.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path

from node import Schedule, activity, workflow
from node.engine.application import collect
from node.engine.engine import Engine
from node.engine.errors import ScheduleConflict, UnknownExecution
from node.engine.events import Kind
from node.engine.inspection import events_of
from node.engine.schedule_state import execution_of

HOUR = 3600
#: Later than any log is made.
START = 2_000_000_000 // HOUR * HOUR
#: Seconds; its lives may take minutes.
ALWAYS = 10**8


@activity
async def told(name: str) -> str:
    await asyncio.sleep(0)
    return name


@workflow
async def job() -> str:
    info = workflow.info()
    assert info.scheduled_at is not None
    return await told(f"{info.schedule} {info.scheduled_at:%H:%M}")


hourly = Schedule(
    "hourly",
    job,
    every=HOUR,
    start_at=START + HOUR,
    end_at=START + 3 * HOUR,
    overlap="buffer_all",
    catch_up_window=ALWAYS,
)
#: Only what is asked for: its ticks are in a far future.
resting = Schedule("resting", job, every=6 * HOUR, anchor=START + HOUR, start_at=START + ALWAYS)
APP = collect("schedules", [hourly, resting, job, told])
MADE = {
    "workflow": "job",
    "every": HOUR,
    "anchor": START + 1800,
    "start_at": START,
    "catch_up_window": ALWAYS,
    "max_runs": 1,
}


def _id(schedule: str, seconds: int) -> str:
    return execution_of(schedule, (START + seconds) * 1000)


TICKS = {
    **{_id("hourly", n * HOUR): f"hourly {_id('', n * HOUR)[12:17]}" for n in (1, 2, 3)},
    **{_id("resting", -n * HOUR): f"resting {_id('', -n * HOUR)[12:17]}" for n in (5, 11)},
}


def _wound() -> Path:
    return Path(os.environ["LEDGER"] + ".clock")


def CLOCK() -> float:
    """It stands still until it is wound up."""
    try:
        return START - 1 + (time.time() - float(_wound().read_text())) * 8 * HOUR
    except (FileNotFoundError, ValueError):
        return START - 1


async def drive(engine: Engine) -> None:
    schedules = engine.schedules
    # In a later life it may have another spec by now.
    with suppress(ScheduleConflict):
        await schedules.create("made", MADE)
    await schedules.backfill("resting", START - 12 * HOUR, START - 4 * HOUR)
    await schedules.trigger("resting", key="k")
    for id in (*(id for id in TICKS if id.startswith("resting")), "resting:trigger:k"):
        await _ended(engine, id)
    if not _wound().exists():
        _wound().write_text(repr(time.time()))
    while schedules.show("made").runs < 1:
        await _later(engine)
    await schedules.pause("made", "enough")
    await schedules.update("made", {**MADE, "max_runs": 5})
    for id in TICKS:
        await _ended(engine, id)


async def _ended(engine: Engine, id: str) -> None:
    while True:
        try:
            if (await engine.result(id)).closed_at is not None:
                return
        except UnknownExecution:
            pass
        await _later(engine)


async def _later(engine: Engine) -> None:
    await asyncio.sleep(0.001)
    engine.look_at_clock()


def check(log: Path, ledger: Path) -> None:
    events = list(events_of(log))
    started = [e.execution for e in events if e.kind is Kind.STARTED and e.name == "job"]
    assert len(set(started)) == len(started)
    ended = {e.execution: e.payload for e in events if e.kind is Kind.COMPLETED}
    assert {id: ended[id] for id in TICKS} == {id: f'"{words}"' for id, words in TICKS.items()}
    for schedule in ("hourly", "resting"):
        mine = [id for id in started if id in TICKS and id.startswith(schedule)]
        assert mine == sorted(mine)
    assert len(started) == len(TICKS) + 2
