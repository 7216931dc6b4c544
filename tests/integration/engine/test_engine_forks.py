"""Forks, on a real engine: from a step, from a failure, and with the results that are the same."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from node import RetryPolicy, activity, workflow
from node.engine.archive import replay_archive
from node.engine.durability import Durability
from node.engine.errors import ExecutionConflict, ForkRefused, PayloadError, UnknownExecution
from node.engine.events import Kind, Status
from node.engine.forked import ForkMode
from node.engine.inspection import inspect_log
from tests.integration.engine.harness import Proves, application, engine, go, until

MODES: list[dict[str, Any]] = [
    {},
    {"forced_replay": True},
    {"durability": Durability.EVERY_COMMIT},
]
ran: list[str] = []
broken: set[str] = set()


@pytest.fixture(autouse=True)
def fresh() -> None:
    ran.clear()
    broken.clear()


@activity(retry=RetryPolicy(max_attempts=1))
async def step(name: str, given: str = "") -> str:
    ran.append(name)
    if name in broken:
        raise ConnectionError(f"{name} is broken")
    return f"{name}({given})"


@activity(transactional=True)
def book(name: str) -> str:
    ran.append(name)
    return f"booked {name}"


@workflow
async def chain(start: str) -> list[str]:
    found = [await step("a", start)]
    found.append(await step("b", str(workflow.uuid4())))
    await workflow.sleep(0.001)
    found.append(await step("c", workflow.info().id))
    found.append(await book("d"))
    found.append(str(workflow.uuid4()))
    return found


APP = application(step, book, chain)


@pytest.mark.parametrize("mode", MODES)
def test_a_fork_goes_on_from_a_step_and_leaves_the_other_as_it_was(
    tmp_path: Path, mode: Any
) -> None:
    async def test() -> None:
        async with engine(tmp_path, APP, barrier=Proves(), **mode) as it:
            await it.start("chain", {"start": "s"}, id="one")
            was = (await it.result("one", wait=10)).result
            before = it.events("one")
            ran.clear()
            made = await it.fork("one", at="step#3", new_id="two")
            assert made.created
            view = await it.result("two", wait=10)
            assert ran == ["c", "d"]
            # What stands is what it was, and what comes after it is its own.
            assert view.result[:4] == was[:4]
            assert view.result[4] != was[4]
            assert view.forked_from == {"id": "one", "mode": "exact", "sequence": 8}
            assert it.events("one") == before
            assert not (await it.fork("one", at="step#3", new_id="two")).created
            with pytest.raises(ExecutionConflict):
                await it.fork("one", mode=ForkMode.REUSE, new_id="two")
            # A fork of the fork, before and after where that was forked.
            for at, steps in (("step#2", ["b", "c", "d"]), ("book", ["d"])):
                ran.clear()
                again = await it.fork("two", at=at)
                found = (await it.result(again.view.id, wait=10)).result
                assert ran == steps
                assert found[0] == was[0]
                assert found[2] == was[2] if at == "book" else found[2] != was[2]
                assert found[4] not in (was[4], view.result[4])
                assert replay_archive(it.export(again.view.id), APP).ok
            assert replay_archive(it.export("two"), APP).ok
        async with engine(tmp_path, APP, barrier=Proves(), **mode) as it:
            assert it.execution("two").forked_from["id"] == "one"  # type: ignore[index]
            assert it.counts["completed"] == 4

    go(test())
    inspect_log(tmp_path / "log.db")
