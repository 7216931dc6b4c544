"""The test kit that ships for users: time that skips, mocks, replays, crashes."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path

import pytest

from node import ActivityFailed, NonRetryable, RetryPolicy, Signal, activity, workflow
from node.engine.durability import Outcome
from node.engine.errors import DefinitionError, EngineStopped, PayloadError
from node.engine.events import Kind, Status
from node.engine.inspection import inspect_log
from node.testing import (
    Diverged,
    ExecutionFailed,
    Lab,
    NotDurable,
    Stuck,
    assert_replays,
    crash_everywhere,
    in_lab,
)

APPROVED = Signal("approved", bool)


@activity
async def charge(order: str, amount: int = 5) -> str:
    raise AssertionError("a test must not charge anybody")


@activity
def remind(order: str) -> None: ...


@activity(transactional=True)
def book(order: str) -> int:
    db = activity.transaction()
    db.execute("CREATE TABLE IF NOT EXISTS booking(id TEXT)")
    db.execute("INSERT INTO booking VALUES (?)", (order,))
    return sum(1 for _ in db.execute("SELECT 1 FROM booking WHERE id = ?", (order,)))


@workflow
async def purchase(order: str) -> str:
    lines: list[str] = []

    @workflow.update
    async def add(line: str) -> int:
        lines.append(line)
        return len(lines)

    @workflow.query
    def count() -> int:
        return len(lines)

    for _ in range(3):
        try:
            await workflow.receive(APPROVED, timeout=timedelta(days=30))
            break
        except TimeoutError:
            await remind(order)
    else:
        return "forgotten"
    booked = await book(order)
    return f"{await charge(order)} {booked} {len(lines)}"


SHOP = (APPROVED, charge, remind, book, purchase)


@in_lab(SHOP)
async def test_ninety_days_pass_at_once(lab: Lab) -> None:
    began = time.monotonic()
    assert await lab.run(purchase, "o") == "forgotten"
    assert time.monotonic() - began < 5
    assert [call.arguments for call in lab.calls(remind)] == [{"order": "o"}] * 3
    assert (lab.now.month, lab.now.day) == (4, 1)


@pytest.mark.parametrize("forced", [False, True])
def test_a_test_talks_to_an_execution_as_a_client_does(forced: bool) -> None:
    @in_lab(SHOP, forced_replay=forced)
    async def test(lab: Lab) -> None:
        lab.mock(charge, returns="paid")
        order = await lab.start(purchase, "o")
        assert await lab.update(order, "add", line="pen") == 1
        assert await lab.update(order, "add", line="ink") == 2
        assert await lab.query(order, "count") == 2
        await lab.advance(timedelta(days=45))
        assert len(lab.calls(remind)) == 1
        assert [wait.kind for wait in lab.waiting(order)] == ["timer", "signal"]
        assert await lab.signal(order, APPROVED, True, key="k")
        assert not await lab.signal(order, APPROVED, True, key="k")
        assert await lab.result(order) == "paid 1 2"
        (call,) = lab.calls(charge)
        assert (dict(call.arguments), call.attempt, call.returned, call.result) == (
            {"order": "o", "amount": 5},
            1,
            True,
            "paid",
        )
        assert lab.view(order).status is Status.COMPLETED
        assert lab.log(order)[0].kind is Kind.STARTED

    test()


@workflow
async def pay(order: str) -> str:
    return await charge(order)


@in_lab(charge, pay)
async def test_mocks_fail_as_they_are_told(lab: Lab) -> None:
    lab.mock(charge, raises=[ConnectionError("a"), TimeoutError], returns="third")
    assert await lab.run(pay, "x") == "third"
    assert [(call.attempt, call.returned) for call in lab.calls(charge)] == [
        (1, False),
        (2, False),
        (3, True),
    ]
    lab.mock(charge, raises=NonRetryable("no money"))
    with pytest.raises(ExecutionFailed, match="no money") as failed:
        await lab.run(pay, "y")
    assert (failed.value.type, failed.value.status) == ("ActivityFailed", Status.FAILED)
    lab.mock(charge, side_effect=lambda order, amount: f"{order} {amount}")
    assert await lab.run(pay, "z") == "z 5"
    lab.unmock(charge)
    lab.mock(charge, raises=[KeyError(str(n)) for n in range(4)])
    with pytest.raises(ExecutionFailed, match="must not charge"):
        await lab.run(pay, "real")


@in_lab(SHOP)
async def test_mocks_keep_to_the_signature(lab: Lab) -> None:
    with pytest.raises(PayloadError):
        lab.mock(charge, returns=7)  # type: ignore[misc]
    with pytest.raises(TypeError, match=r"\(order, amount\)"):
        lab.mock(charge, side_effect=lambda: "x")
    with pytest.raises(TypeError, match="either"):
        lab.mock(charge, returns="x", hangs=True)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="returns, raises"):
        lab.mock(charge, raises=[])
    with pytest.raises(TypeError, match="transactional"):
        lab.mock(book, hangs=True)


@workflow
async def impatient(order: str) -> str:
    try:
        async with asyncio.timeout(3600):
            return await charge(order)
    except TimeoutError:
        return "too slow"


@in_lab(charge, impatient)
async def test_time_skips_while_a_mock_hangs(lab: Lab) -> None:
    lab.mock(charge, hangs=True)
    assert await lab.run(impatient, "x") == "too slow"
    lab.mock(charge, raises=[ConnectionError], hangs=True)
    assert await lab.run(impatient, "y") == "too slow"


@in_lab(SHOP, skips_time=False, patience=0.05)
async def test_what_nothing_will_end_is_told(lab: Lab) -> None:
    order = await lab.start(purchase, "o")
    with pytest.raises(Stuck, match=r"purchase-1 waits for .*signal approved"):
        await lab.result(order)
    with pytest.raises(Stuck):
        await lab.until(lambda: lab.calls(remind))
    await lab.advance(91 * 86400)
    assert await lab.result(order) == "forgotten"


@workflow
async def asks() -> object:
    event = workflow.external("human", str)
    await remind(event.token)
    return await event


@in_lab(remind, asks)
async def test_external_events_and_cancelling(lab: Lab) -> None:
    first, second = await lab.start(asks), await lab.start(asks)
    await lab.until(lambda: len(lab.calls(remind)) == 2)
    assert await lab.complete(lab.calls(remind)[0].arguments["order"], "yes")
    assert await lab.cancel(second, "enough")
    assert await lab.result(first) == "yes"
    assert (await lab.ended(second)).status is Status.CANCELLED
    assert lab.outcomes()["asks-1"] == (Status.COMPLETED, "yes")
    assert await lab.result("asks-1") == "yes"


@in_lab(charge, pay, durability="before_effects")
async def test_a_barrier_does_what_it_is_told(lab: Lab) -> None:
    lab.mock(charge, returns="paid")
    lab.barrier.time_out(2)
    assert await lab.run(pay, "slow") == "paid"
    assert len(lab.barrier.asked) >= 3
    lab.barrier.answer(Outcome.UNKNOWN)
    assert await lab.run(pay, "unknown") == "paid"
    lab.barrier.hold()
    held = await lab.start(pay, "held")
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(lab.calls(charge)) == 2
    lab.barrier.release()
    assert await lab.result(held) == "paid"
    lab.barrier.fence()
    with pytest.raises(EngineStopped):
        await lab.run(pay, "fenced")
    assert len(lab.calls(charge)) == 3


@in_lab(SHOP)
async def test_an_engine_is_cut_off_and_opened_again(lab: Lab) -> None:
    lab.mock(charge, returns="paid")
    order = await lab.start(purchase, "o")
    lab.cut_off()
    with pytest.raises(EngineStopped):
        await lab.result(order)
    await lab.restart()
    await lab.signal(order, APPROVED, True)
    lab.cut_off(after=1)
    with pytest.raises(EngineStopped):
        await lab.result(order)
    await lab.restart()
    assert await lab.result(order) == "paid 1 0"
    inspect_log(lab.path)


async def buys(lab: Lab) -> str:
    lab.mock(charge, raises=[ConnectionError("try again")], returns="paid")
    order = await lab.start(purchase, "o")
    await lab.update(order, "add", line="pen")
    await lab.signal(order, APPROVED, True)
    return await lab.result(order)


@pytest.mark.parametrize("options", [{}, {"forced_replay": True}, {"durability": "every_commit"}])
def test_a_good_workflow_survives_everywhere(options: dict[str, object]) -> None:
    survived = asyncio.run(crash_everywhere(buys, SHOP, **options))
    assert survived.outcome == "paid 1 1"
    assert survived.commits >= 6


def test_a_workflow_with_a_memory_outside_the_log_does_not_survive() -> None:
    seen: list[str] = []

    @activity
    async def remember(text: str) -> int:
        seen.append(text)
        return len(seen)

    @workflow
    async def forgetful() -> int:
        await remember("one")
        return await remember("two")

    async def scenario(lab: Lab) -> int:
        seen.clear()
        return await lab.run(forgetful)

    with pytest.raises(NotDurable, match="after commit 2"):
        asyncio.run(crash_everywhere(scenario, remember, forgetful))


def test_code_that_no_replay_can_repeat_is_told(tmp_path: Path) -> None:
    turns: list[int] = []

    @workflow
    async def fickle() -> None:
        turns.append(1)
        await remind(str(len(turns)))
        await remind("end")

    @in_lab(remind, fickle, forced_replay=True)
    async def test(lab: Lab) -> None:
        with pytest.raises(Diverged, match="remind"):
            await lab.run(fickle)

    test()


def test_logs_and_archives_are_followed_by_other_code(tmp_path: Path) -> None:
    @workflow(name="job")
    async def job() -> None:
        await remind("a")
        await workflow.sleep(timedelta(days=1))
        await remind("b")

    @workflow(name="job")
    async def changed() -> None:
        await remind("b")

    path = tmp_path / "log.db"

    @in_lab(remind, job, path=path)
    async def test(lab: Lab) -> None:
        await lab.run(job)
        (tmp_path / "job.json").write_text(lab.engine.export("job-1").model_dump_json())

    test()
    same, other = Lab(remind, job).application, Lab(remind, changed).application
    for recorded in (path, tmp_path / "job.json"):
        assert assert_replays(recorded, same) == 1
        with pytest.raises(AssertionError, match="does not follow"):
            assert_replays(recorded, other)


def test_a_recorded_failure_is_forked_in_a_test(tmp_path: Path) -> None:
    """What failed elsewhere is brought to the laboratory, and mended there."""
    path = tmp_path / "failed.json"

    @in_lab(SHOP)
    async def elsewhere(lab: Lab) -> None:
        lab.mock(charge, raises=NonRetryable("no money"))
        order = await lab.start(purchase, "o")
        await lab.signal(order, APPROVED, True)
        assert (await lab.ended(order)).status is Status.FAILED
        path.write_text(lab.engine.export(order.id).model_dump_json())
        lab.mock(charge, returns="paid")
        assert await lab.result(await lab.fork(order)) == "paid 1 0"

    @in_lab(SHOP)
    async def here(lab: Lab) -> None:
        lab.mock(charge, returns="paid")
        mended = await lab.fork(path)
        assert mended.id == "purchase-1-fork-1"
        assert await lab.result(mended) == "paid 1 0"
        assert [call.activity for call in lab.calls()] == ["charge"]
        again = await lab.fork(mended, mode="reuse", input={"order": "p"}, id="again")
        assert await lab.result(again) == "paid 1 0"
        assert [call.activity for call in lab.calls()] == ["charge", "book", "charge"]

    elsewhere()
    here()


def test_a_lab_takes_modules_names_and_applications() -> None:
    from tests.integration.engine import engine_app

    names = {"order"}
    for thing in (engine_app, engine_app.__name__, Lab(engine_app).application):
        assert set(Lab(thing).application.workflows) == names
    with pytest.raises(DefinitionError):
        Lab()


@activity(retry=RetryPolicy(max_attempts=2, initial=86_400, max_interval=86_400, jitter=0))
async def rarely() -> None:
    raise ConnectionError("closed today")


@workflow
async def patient() -> str:
    try:
        await rarely()
    except ActivityFailed as error:
        return f"{error.type} {error.attempts}"
    return "?"


@in_lab(rarely, patient)
async def test_time_skips_to_the_next_attempt(lab: Lab) -> None:
    began = lab.now
    assert await lab.run(patient) == "ConnectionError 2"
    assert lab.now - began >= timedelta(days=1)
