"""Forks of random programs: at whatever step, they end as what they were made from."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from node import activity, workflow
from node.engine.application import Application, collect
from node.engine.archive import replay_archive
from node.engine.definition import Activity
from node.engine.durability import Durability
from node.engine.events import INTENTS, TIMER_STEP, Kind
from node.engine.forked import ForkMode
from node.engine.inspection import inspect_log
from tests.integration.engine.harness import Proves, engine

MODES: list[dict[str, Any]] = [
    {},
    {"forced_replay": True},
    {"durability": Durability.EVERY_COMMIT},
]
ran: list[str] = []
#: A program: `a`, `b` and `t` are steps, `z` sleeps, a list is done in a row, a tuple at once.
Program = Any


def programs() -> st.SearchStrategy[Program]:
    leaves = st.sampled_from(["a", "a", "b", "t", "z"])
    inner = st.recursive(
        leaves,
        lambda part: st.one_of(
            st.lists(part, min_size=1, max_size=3),
            st.lists(part, min_size=2, max_size=3).map(lambda parts: {"at once": parts}),
        ),
        max_leaves=7,
    )
    return st.lists(inner, min_size=1, max_size=3)


def application(version: str | None) -> Application:
    async def wait(number: int) -> None:
        # In no particular order.
        for _ in range(number % 5):
            await asyncio.sleep(0)

    @activity
    async def a(given: int) -> int:
        await wait(given)
        ran.append("a")
        return (3 * given + 1) % 1000

    @activity(version=version)
    async def b(given: int) -> int:
        await wait(given + 1)
        ran.append("b")
        return (5 * given + 2) % 1000

    @activity(transactional=True)
    def t(given: int) -> int:
        ran.append("t")
        return (7 * given + 3) % 1000

    steps: dict[str, Activity[[int], int]] = {"a": a, "b": b, "t": t}

    @workflow
    async def play(program: Any, start: int) -> int:
        async def perform(part: Any, value: int) -> int:
            if isinstance(part, dict):
                found = [perform(one, value + n) for n, one in enumerate(part["at once"])]
                return sum(await asyncio.gather(*found)) % 1000
            if isinstance(part, list):
                for one in part:
                    value = await perform(one, value)
                return value
            if part == "z":
                await workflow.sleep(0.0005)
                return value
            return await steps[part](value)

        return await perform(program, start)

    return collect("programs", [a, b, t, play])


@settings(max_examples=8, deadline=None)
@given(programs(), st.integers(0, 50), st.sampled_from(MODES))
def test_a_fork_at_any_step_ends_as_the_source(
    program: Program, start: int, mode: dict[str, Any]
) -> None:
    async def test(folder: Path) -> None:
        old, new = application("1"), application("2")
        async with engine(folder, old, barrier=Proves(), **mode) as it:
            await it.start("play", {"program": program, "start": start}, id="source")
            wanted = (await it.result("source", wait=10)).result
            history = it.events("source")
            calls = [event for event in history if event.kind in INTENTS]
            names = sorted(event.name for event in calls if event.kind is Kind.STEP)
            # Each of them in a long program would take its time.
            for event in calls[start % 2 :: max(1, len(calls) // 3)]:
                step = f"{event.name}#{event.occurrence}"
                planned = it.preview_fork("source", at=step)
                again = [one.name for one in planned.steps if one.action == "runs"]
                later = [one.name for one in planned.steps if one.action == "unknown"]
                ran.clear()
                made = (await it.fork("source", at=step)).view
                assert (await it.result(made.id, wait=10)).result == wanted, step
                assert sorted(ran) == sorted(again + later)
                assert [event.name] == again or event.name == TIMER_STEP
                assert replay_archive(it.export(made.id), old).ok
                # And a fork of that, at the same step and where it stands.
                twin = (await it.fork(made.id, at=step)).view
                assert (await it.result(twin.id, wait=10)).result == wanted, step
            ran.clear()
            same = (await it.fork("source", mode=ForkMode.REUSE)).view
            assert (await it.result(same.id, wait=10)).result == wanted
            assert ran == []
            assert it.events("source") == history
        async with engine(folder, new, barrier=Proves(), **mode) as it:
            for source in ("source", same.id):
                planned = it.preview_fork(source, mode=ForkMode.REUSE)
                ran.clear()
                changed = (await it.fork(source, mode=ForkMode.REUSE)).view
                assert (await it.result(changed.id, wait=10)).result == wanted
                assert sorted(ran) == [name for name in names if name == "b"]
                assert sorted(ran) == [one.name for one in planned.steps if one.action == "runs"]
                assert planned.ends == "it ends: completed"
        inspect_log(folder / "log.db")

    with tempfile.TemporaryDirectory() as name:
        asyncio.run(test(Path(name)))
