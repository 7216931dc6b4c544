"""Programs that an engine once did not survive, as they were found and printed."""

from __future__ import annotations

import asyncio

import pytest

from node import RetryPolicy, activity, workflow
from node.engine.archive import replay
from node.engine.events import Kind
from node.testing import Lab, MemoryBarrier, crash_everywhere
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
    "what forced replay had of an opened log was not in one order with what came then": (
        Program(
            ["finally", ["child", ["count"], "attached"], ["step", "async", 0]],
            [[0, "cancel", 0], [0, "stop_queue"], [0, "retry", 0]],
            workflow="strict",
        )
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


@activity
async def hold_proofs(run: int) -> None:
    """From here on nothing is proven: its own result is not, nor what comes after it."""
    if not run:
        held[-1].hold()


held: list[MemoryBarrier] = []


@workflow(durability="every_commit")
async def goes_on(run: int = 0) -> str:
    await hold_proofs(run)
    if not run:
        workflow.continue_as_new(1)
    return str(await workflow.receive("word", timeout=60))


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


@pytest.mark.parametrize("crash", [False, True])
@pytest.mark.parametrize("what", [Kind.SIGNAL, Kind.CANCEL])
def test_what_is_logged_and_not_yet_proven_reaches_the_code_that_goes_on(
    what: Kind, crash: bool
) -> None:
    """With every_commit, a message waits for its proof, and the code can end before that."""

    async def test() -> None:
        async with Lab(hold_proofs, goes_on) as lab:
            held.append(lab.barrier)
            execution = await lab.start(goes_on)
            await _logged(lab, execution.id, Kind.STEP_COMPLETED)
            if what is Kind.SIGNAL:
                assert await lab.signal(execution, "word", "heard")
            else:
                assert await lab.cancel(execution, "enough")
            assert Kind.CONTINUED not in await _logged(lab, execution.id, what)
            if crash:
                lab.cut_off()
                lab.barrier.release()
                await lab.restart()
            lab.barrier.release()
            view = await lab.ended(execution)
            wanted = ("completed", "heard") if what is Kind.SIGNAL else ("cancelled", None)
            assert (view.status, view.result) == wanted

    asyncio.run(test())


async def _logged(lab: Lab, id: str, kind: Kind) -> list[Kind]:
    """The kinds of its events, once this one is among them."""
    async with asyncio.timeout(10):
        while True:
            kinds = [event.kind for event in lab.log(id)]
            if kind in kinds:
                return kinds
            await asyncio.sleep(0.001)
