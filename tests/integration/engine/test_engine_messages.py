"""Signals, conditions, updates and queries on a real engine."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from node import Signal, activity, workflow
from node.engine.durability import Durability
from node.engine.errors import (
    ExecutionClosed,
    PayloadError,
    QueryFailed,
    StateChanged,
    UnknownExecution,
    UnknownHandler,
    UpdateFailed,
    UpdateRefused,
)
from node.engine.events import Kind, Status
from node.engine.inspection import inspect_log
from tests.integration.engine.harness import (
    Proves,
    application,
    engine,
    go,
    until,
)

MODES = [{}, {"forced_replay": True}, {"durability": Durability.EVERY_COMMIT}]


class Approval(BaseModel):
    who: str
    ok: bool


approval = Signal("approval", Approval)


@activity
async def double(number: int) -> int:
    return 2 * number


@workflow
async def approved() -> str:
    found = await workflow.receive(approval)
    again = await workflow.receive(approval)
    return f"{found.who} {again.who}"


def kinds(it: Any, id: str) -> list[Kind]:
    return [event.kind for event in it.events(id)]


@pytest.mark.parametrize("mode", MODES)
def test_a_signal_sent_twice_with_one_key_arrives_once(tmp_path: Path, mode: Any) -> None:
    async def test() -> None:
        async with engine(
            tmp_path, application(approval, approved), barrier=Proves(), **mode
        ) as it:
            await it.start("approved", {}, id="a")
            ann = Approval(who="ann", ok=True)
            both = await asyncio.gather(
                *(it.signal("a", "approval", ann, key="k1") for _ in range(4))
            )
            assert sorted(sent.arrived for sent in both) == [False, False, False, True]
        async with engine(
            tmp_path, application(approval, approved), barrier=Proves(), **mode
        ) as it:
            # The key is remembered over a restart.
            assert not (await it.signal("a", "approval", ann, key="k1")).arrived
            assert (await it.signal("a", "approval", {"who": "bob", "ok": 1}, key="k2")).arrived
            assert (await it.result("a", wait=10)).result == "ann bob"
            # And after the end, when nothing else is taken any more.
            assert not (await it.signal("a", "approval", ann, key="k1")).arrived
            with pytest.raises(ExecutionClosed):
                await it.signal("a", "approval", ann, key="k3")
            assert kinds(it, "a").count(Kind.SIGNAL) == 2

    go(test())
    inspect_log(tmp_path / "log.db")


def test_a_signal_of_another_type_is_refused_and_leaves_no_trace(tmp_path: Path) -> None:
    @workflow
    async def handled() -> int:
        seen: list[int] = []

        @workflow.signal
        def number(value: int) -> None:
            seen.append(value)

        await workflow.wait_for(lambda: bool(seen))
        return seen[0]

    async def test() -> None:
        async with engine(tmp_path, application(approval, approved, handled)) as it:
            await it.start("approved", {}, id="a")
            await it.start("handled", {}, id="b")
            before = it.sequence
            with pytest.raises(PayloadError):
                await it.signal("a", "approval", "yes")
            with pytest.raises(PayloadError):
                await it.signal("b", "number", "many")
            with pytest.raises(PayloadError):
                await it.signal("b", "number", 1, key="")
            with pytest.raises(UnknownExecution):
                await it.signal("c", "approval", {"who": "x", "ok": True})
            assert it.sequence == before
            await it.signal("b", "number", 5)
            assert (await it.result("b", wait=10)).result == 5

    go(test())


@pytest.mark.parametrize("forced", [False, True])
def test_signals_that_come_before_the_code_asks_are_kept_in_order(
    tmp_path: Path, forced: bool
) -> None:
    @workflow
    async def slow() -> list[int]:
        first = [await workflow.receive("n", int, timeout=60)]
        await double(1)

        @workflow.signal
        def n(value: int) -> None:
            first.append(value)

        await workflow.wait_for(lambda: len(first) == 5)
        return first

    async def test() -> None:
        async with engine(tmp_path, application(double, slow), forced_replay=forced) as it:
            await it.start("slow", {}, id="a")
            for number in range(5):
                await it.signal("a", "n", number)
            assert (await it.result("a", wait=10)).result == [0, 1, 2, 3, 4]

    go(test())


@pytest.mark.parametrize("forced", [False, True])
def test_a_receive_that_timed_out_stays_timed_out(tmp_path: Path, forced: bool) -> None:
    @workflow
    async def impatient() -> list[str]:
        seen: list[str] = []
        try:
            seen.append(await workflow.receive("word", str, timeout=0.01))
        except TimeoutError:
            seen.append("late")
        seen.append(await workflow.receive("word", str))
        seen.append(await workflow.receive("word", str))
        return seen

    app = application(impatient)

    async def first() -> None:
        async with engine(tmp_path, app, forced_replay=forced) as it:
            await it.start("impatient", {}, id="a")
            await until(lambda: Kind.TIMER_FIRED in kinds(it, "a"))
            await it.signal("a", "word", "one")

    async def second() -> None:
        async with engine(tmp_path, app, forced_replay=forced) as it:
            await it.signal("a", "word", "two")
            assert (await it.result("a", wait=10)).result == ["late", "one", "two"]

    go(first())
    go(second())


@pytest.mark.parametrize("forced", [False, True])
def test_a_condition_wakes_when_it_becomes_true_or_times_out(tmp_path: Path, forced: bool) -> None:
    @workflow
    async def waits() -> list[object]:
        state = {"n": 0}

        @workflow.signal
        def up() -> None:
            state["n"] += 1

        with suppress(TimeoutError):
            await workflow.wait_for(lambda: state["n"] > 99, timeout=0.01)

        async def chain(limit: int) -> int:
            await workflow.wait_for(lambda: state["n"] >= limit)
            state["n"] += 1
            return limit

        found = await asyncio.gather(chain(3), chain(2), chain(1))
        return [*found, state["n"]]

    async def test() -> None:
        async with engine(tmp_path, application(waits), forced_replay=forced) as it:
            await it.start("waits", {}, id="a")
            await it.signal("a", "up")
            assert (await it.result("a", wait=10)).result == [3, 2, 1, 4]

    go(test())


@pytest.mark.parametrize("mode", MODES)
def test_an_update_is_logged_and_answered(tmp_path: Path, mode: Any) -> None:
    @workflow
    async def account() -> int:
        balance = 0

        def enough(amount: int) -> None:
            if amount > balance:
                raise ValueError(f"only {balance} are there")

        @workflow.update
        def pay_in(amount: int) -> int:
            nonlocal balance
            balance += amount
            return balance

        @workflow.update(validator=enough)
        async def pay_out(amount: int) -> int:
            nonlocal balance
            balance -= await double(amount) // 2
            return balance

        @workflow.update
        async def explode() -> None:
            raise RuntimeError("boom")

        @workflow.query
        def current(plus: int = 0) -> int:
            return balance + plus

        await workflow.receive("close")
        return balance

    app = application(double, account)

    async def first() -> None:
        async with engine(tmp_path, app, barrier=Proves(), **mode) as it:
            await it.start("account", {}, id="a")
            assert (await it.update("a", "pay_in", {"amount": 5}, key="x")).value == 5
            before = it.sequence
            with pytest.raises(UpdateRefused, match="only 5 are there"):
                await it.update("a", "pay_out", {"amount": 6}, key="y")
            with pytest.raises(UnknownHandler, match="it has: explode, pay_in, pay_out"):
                await it.update("a", "nothing", {})
            with pytest.raises(PayloadError):
                await it.update("a", "pay_in", {"amount": "much"})
            assert (await it.query("a", "current", {})).value == 5
            assert it.sequence == before
            # The refused one left no trace of its key either.
            out = await it.update("a", "pay_out", {"amount": 2}, key="y")
            assert out.value == 3
            assert out.sequence <= it.sequence
            with pytest.raises(UpdateFailed, match="boom"):
                await it.update("a", "explode", {}, key="z")

    async def second() -> None:
        async with engine(tmp_path, app, barrier=Proves(), **mode) as it:
            before = it.sequence
            assert (await it.update("a", "pay_in", {"amount": 5}, key="x")).value == 5
            with pytest.raises(UpdateFailed, match="boom"):
                await it.update("a", "explode", {}, key="z")
            assert it.sequence == before
            assert (await it.query("a", "current", {"plus": 10})).value == 13
            await it.signal("a", "close")
            assert (await it.result("a", wait=10)).result == 3
            # Closed executions answer what they were asked before, and queries.
            assert (await it.update("a", "pay_out", {"amount": 2}, key="y")).value == 3
            assert (await it.query("a", "current", {})).value == 3
            with pytest.raises(ExecutionClosed):
                await it.update("a", "pay_in", {"amount": 5}, key="new")

    go(first())
    go(second())
    inspect_log(tmp_path / "log.db")


def test_an_update_whose_execution_ends_first_says_so(tmp_path: Path) -> None:
    @workflow
    async def ends() -> None:
        @workflow.update
        async def never() -> None:
            await workflow.sleep(3600)

        await workflow.receive("end")

    async def test() -> None:
        async with engine(tmp_path, application(ends)) as it:
            await it.start("ends", {}, id="a")
            asked = asyncio.create_task(it.update("a", "never", {}))
            await until(lambda: Kind.UPDATE in kinds(it, "a"))
            await it.signal("a", "end")
            with pytest.raises(ExecutionClosed):
                await asked

    go(test())


@pytest.mark.parametrize("forced", [False, True])
def test_a_query_cannot_change_anything(tmp_path: Path, forced: bool) -> None:
    @workflow
    async def watched() -> list[int]:
        items = [1]
        done = asyncio.Event()
        lock = threading.Lock()
        nested = {"inner": items}

        def helper() -> None:
            nested["inner"].append(3)

        @workflow.query
        def look() -> list[int]:
            return items

        @workflow.query
        def append() -> None:
            items.append(2)

        @workflow.query
        def through_a_helper() -> None:
            helper()

        @workflow.query
        def sets() -> None:
            done.set()

        @workflow.query
        def beside_a_lock() -> bool:
            # What cannot be copied is looked at in a copy that is replayed from the log.
            items.append(9)
            return lock.acquire(blocking=False)

        @workflow.query
        def calls() -> None:
            _ = double(1)

        @workflow.query
        def swallows() -> str:
            try:
                _ = workflow.uuid4()
            except Exception:
                return "swallowed"
            return "?"

        @workflow.query
        def raises() -> None:
            raise KeyError("no")

        await workflow.receive("end")
        return items

    async def test() -> None:
        async with engine(tmp_path, application(double, watched), forced_replay=forced) as it:
            await it.start("watched", {}, id="a")
            before = it.sequence
            for name in ("append", "through_a_helper", "sets", "calls", "swallows"):
                with pytest.raises(StateChanged):
                    await it.query("a", name, {})
                assert (await it.query("a", "look", {})).value == [1]
            for _ in range(2):
                assert (await it.query("a", "beside_a_lock", {})).value is True
                assert (await it.query("a", "look", {})).value == [1]
            with pytest.raises(QueryFailed, match="KeyError"):
                await it.query("a", "raises", {})
            assert it.sequence == before
            assert it.execution("a").status is Status.RUNNING
            await it.signal("a", "end")
            assert (await it.result("a", wait=10)).result == [1]

    go(test())


def test_a_condition_that_does_something_fails(tmp_path: Path) -> None:
    @workflow
    async def acts() -> None:
        await workflow.wait_for(lambda: double(1))

    async def test() -> None:
        async with engine(tmp_path, application(double, acts)) as it:
            await it.start("acts", {}, id="a")
            view = await it.result("a", wait=10)
            assert view.error is not None
            assert view.error["type"] == "StateChanged"

    go(test())
