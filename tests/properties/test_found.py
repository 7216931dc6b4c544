"""Programs that an engine once did not survive, as they were found and printed."""

from __future__ import annotations

import asyncio

import pytest

from node import RetryPolicy, activity, workflow
from node.engine.archive import replay
from node.engine.events import Kind
from node.testing import Lab, crash_everywhere
from tests.properties.programs import Program
from tests.properties.ways import survives

FOUND = {
    "a child in its parent's queue, cancelled with it, got the turn that its parent gave back": (
        Program(["child", ["count"], "queued"], workflow="queued")
    ),
    "clean-up that awaits what is cancelled ended the engine when its code was dropped": (
        Program(["gather", ["finally", ["receive", "go", None], ["quit"]], ["fail"]])
    ),
    "clean-up that goes on with a new input ended the engine when its code was dropped": (
        Program(["gather", ["finally", ["receive", "go", None], ["again"]], ["fail"]])
    ),
    "with every_commit, an outcome between a cancellation and the end was taken for divergence": (
        Program(["step", "async", 0], [[0, "cancel", 0]], workflow="strict")
    ),
}


@pytest.mark.parametrize("program", FOUND.values(), ids=FOUND.keys())
def test_found_before(program: Program) -> None:
    survives(program, thorough=True)


@activity(transactional=True, retry=RetryPolicy(max_attempts=1))
def kept(number: int) -> int:
    if number:
        raise ValueError("not this one")
    return number


@workflow
async def both() -> None:
    await asyncio.gather(kept(1), kept(0))


def test_two_transactions_of_one_commit_the_first_of_which_ends_the_code() -> None:
    """The second's outcome is in the log before the end, and a replay took it for divergence."""

    async def test() -> None:
        async with Lab(kept, both) as lab:
            execution = await lab.start(both)
            await lab.ended(execution)
            found = lab.log(execution)
            assert [event.kind for event in found] == [
                Kind.STARTED,
                Kind.STEP,
                Kind.STEP,
                Kind.STEP_FAILED,
                Kind.STEP_COMPLETED,
                Kind.FAILED,
            ]
            assert found[3].commit == found[4].commit
            assert replay(found, lab.application, tenant="lab", lineage="lab").ok
        await crash_everywhere(_run_both, kept, both)

    asyncio.run(test())


async def _run_both(lab: Lab) -> str:
    return (await lab.ended(await lab.start(both.with_id("b")))).status
