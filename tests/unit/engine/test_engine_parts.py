"""The small parts: payloads, retry waits, the chain, the guard, timers, proofs, definitions."""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from node import Activity, NonRetryable, RetryLater, RetryPolicy, activity, workflow
from node.engine import chain, guard
from node.engine.application import collect, load_app
from node.engine.context import idempotency_key, new_id, seed
from node.engine.durability import Durability, Outcome, Proof, Proofs, effective
from node.engine.errors import (
    DefinitionError,
    DeterminismError,
    EngineStopped,
    NotInActivity,
    NotInWorkflow,
    PayloadError,
    PayloadTooLarge,
)
from node.engine.payload import Codec, _Form, _is_plain, _Limit
from node.engine.timers import AT_ONCE, Timers

# Payloads -----------------------------------------------------------------------------------------


class Model(BaseModel):
    name: str
    at: datetime


@dataclass
class Point:
    x: int
    y: int = 0


def takes(model: Model, points: list[Point], price: Decimal, limit: int = 5) -> Model:
    return model


def test_arguments_come_back_as_what_they_were() -> None:
    codec = Codec(takes, "takes")
    model = Model(name="n", at=datetime(2026, 1, 2, tzinfo=UTC))
    text = codec.input((model, [Point(1, 2)]), {"price": Decimal("1.10")})
    bound = codec.arguments(text)
    assert bound.args == (model, [Point(1, 2)], Decimal("1.10"), 5)
    assert " " not in text
    assert "limit" not in json.loads(text)
    assert codec.value(codec.result(model)) == model


def test_a_start_holds_the_defaults_of_its_time() -> None:
    codec = Codec(takes, "takes")
    body = {"model": {"name": "n", "at": "2026-01-02T00:00:00Z"}, "points": [], "price": 1}
    assert json.loads(codec.start(body))["limit"] == 5
    assert codec.start({**body, "limit": "5"}) == codec.start(dict(reversed(body.items())))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "Field required"),
        ({"x": "a"}, "valid integer"),
        ({"x": 1, "z": 2}, "z: Extra inputs"),
    ],
)
def test_values_that_do_not_fit_are_refused(values: dict[str, Any], words: str) -> None:
    def function(x: int) -> None: ...

    with pytest.raises(PayloadError, match=words):
        Codec(function, "function").input_of(values)


def test_a_result_that_does_not_fit_is_refused() -> None:
    def function() -> int: ...  # type: ignore[empty-body]

    codec = Codec(function, "function")
    with pytest.raises(PayloadError, match="its result is not"):
        codec.result("x")
    with pytest.raises(PayloadError, match="in the log"):
        codec.value('"x"')


def test_null_takes_no_room_and_the_limit_is_exact() -> None:
    def function(x: str) -> str | None: ...

    codec = Codec(function, "function")
    assert codec.result(None) is None
    assert codec.value(None) is None
    assert len(codec.result("x" * (_Limit.size - 2)) or "") == _Limit.size
    with pytest.raises(PayloadTooLarge):
        codec.result("x" * (_Limit.size - 1))


def test_what_cannot_be_json_is_refused_at_the_declaration() -> None:
    def function(x: threading.Lock) -> None: ...

    def anything(*args: int) -> None: ...

    with pytest.raises(DefinitionError):
        Codec(function, "function").check()
    with pytest.raises(DefinitionError, match="no fixed name"):
        Codec(anything, "anything")


PLAIN: list[Any] = [int, str, bool, float, None, int | None, list[int], dict[str, bool | None]]


@pytest.mark.parametrize("hint", PLAIN)
@given(data=st.data())
def test_plain_values_are_written_like_all_others(hint: Any, data: st.DataObject) -> None:
    value = data.draw(st.from_type(type(None) if hint is None else hint))
    try:
        text = _Form(hint, "f", "it", plain=False).write(value)
    except PayloadError as error:
        with pytest.raises(PayloadError, match=re.escape(str(error))):
            _Form(hint, "f", "it", plain=True).write(value)
    else:
        assert _Form(hint, "f", "it", plain=True).write(value) == text


@pytest.mark.parametrize(
    "hint", [Any, Model, Point, list, dict, list[Any], Annotated[int, str], int | Model, bytes]
)
def test_what_may_not_be_what_it_declares_is_not_plain(hint: Any) -> None:
    assert not _is_plain(hint)
    assert all(map(_is_plain, PLAIN))


# Ids ----------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 2**40 - 1), min_size=2), st.randoms(use_true_random=False))
def test_ids_are_in_the_order_of_time(moments: list[int], chance: random.Random) -> None:
    ids = [new_id(at, chance) for at in sorted(moments)]
    assert all(re.fullmatch("[0-9a-v]{16}", id) for id in ids)
    assert [id[:8] for id in ids] == sorted(id[:8] for id in ids)
    assert new_id(2**41 + 5, random.Random(1)) == new_id(5, random.Random(1))


# Definitions --------------------------------------------------------------------------------------


@activity
async def length(text: str, *, times: int = 1) -> int:
    return len(text) * times


@activity(retry=RetryPolicy(max_attempts=1))
def plain(text: str) -> str:
    return text.upper()


@workflow
async def both(text: str) -> tuple[int, str]:
    number = await length(text, times=2)
    upper = await plain(text)
    # What the type checker knows about these is part of the promise.
    checked: tuple[int, str] = (number, upper)
    return checked


def test_outside_of_an_engine_they_are_just_functions() -> None:
    assert asyncio.run(both("abc")) == (6, "ABC")
    assert isinstance(length, Activity)
    assert (length.name, length.__doc__) == ("length", None)


def test_what_belongs_inside_says_so_outside() -> None:
    functions: list[Callable[[], object]] = [
        workflow.now,
        workflow.random,
        workflow.uuid4,
        workflow.info,
    ]
    for function in functions:
        with pytest.raises(NotInWorkflow):
            function()
    with pytest.raises(NotInWorkflow):
        asyncio.run(workflow.sleep(1))
    with pytest.raises(NotInActivity):
        activity.info()
    with pytest.raises(NotInActivity):
        activity.transaction()


def test_declarations_that_cannot_work_are_refused() -> None:
    async def coroutine() -> None: ...

    def function() -> None: ...

    declarations: list[Callable[[], object]] = [
        lambda: workflow(function),  # type: ignore[arg-type]
        lambda: workflow(name="a b")(coroutine),
        lambda: workflow(durability="maybe"),
        lambda: activity(name="")(lambda: None),
        lambda: activity(name="(timer)")(function),
        lambda: activity(transactional=True)(coroutine),
        lambda: activity(transactional=True, timeout=1)(function),
        lambda: activity(timeout=timedelta(0))(function),
        lambda: RetryPolicy(max_attempts=0),
        lambda: RetryPolicy(factor=0.5),
        lambda: RetryPolicy(jitter=2),
    ]
    for declare in declarations:
        with pytest.raises(DefinitionError):
            declare()


def test_an_application_is_what_a_module_declares() -> None:
    app = load_app(__name__)
    assert set(app.workflows) == {"both"}
    assert set(app.activities) == {"length", "plain"}
    other = activity(name="length")(lambda: None)
    with pytest.raises(DefinitionError, match="two activities"):
        collect("app", [both, length, other])
    with pytest.raises(DefinitionError, match="no workflow"):
        collect("app", [length])
    with pytest.raises(DefinitionError, match="cannot be imported"):
        load_app("no.such.module")


# Retries ------------------------------------------------------------------------------------------


def test_waits_grow_up_to_their_limit() -> None:
    policy = RetryPolicy(max_attempts=None, initial=1, factor=3, max_interval=20, jitter=0)
    chance = random.Random(1)
    waits = [policy.wait(attempt, ValueError(), chance) for attempt in (1, 2, 3, 4, 5000)]
    assert waits == [1, 3, 9, 20, 20]


@given(st.integers(1, 50), st.integers(0, 2**32))
def test_jitter_stays_within_its_part(attempt: int, start: int) -> None:
    policy = RetryPolicy(max_attempts=None, initial=1, factor=2, max_interval=60, jitter=0.25)
    plain = RetryPolicy(max_attempts=None, initial=1, factor=2, max_interval=60, jitter=0)
    chance = random.Random(start)
    base = plain.wait(attempt, ValueError(), chance) or 0
    wait = policy.wait(attempt, ValueError(), chance) or 0
    assert 0.75 * base <= wait <= 1.25 * base


def test_when_there_is_no_other_attempt() -> None:
    chance = random.Random(1)
    policy = RetryPolicy(max_attempts=3, non_retryable=(KeyError,))
    assert policy.wait(2, ValueError(), chance) is not None
    assert policy.wait(3, ValueError(), chance) is None
    assert policy.wait(1, KeyError(), chance) is None
    assert policy.wait(1, NonRetryable(), chance) is None
    assert policy.wait(1, RetryLater(retry_after=77), chance) == 77
    assert policy.wait(3, RetryLater(retry_after=77), chance) is None


# Keys and the chain -------------------------------------------------------------------------------


def test_keys_tell_every_call_apart() -> None:
    calls = [
        (lineage, execution, step, occurrence)
        for lineage in ("l", "l1", "")
        for execution in ("e", "1e", "e1")
        for step in ("s", "es", "1")
        for occurrence in (1, 11, 2)
    ]
    assert len({idempotency_key(*call) for call in calls}) == len(calls)
    assert idempotency_key("l", "e", "s", 1) == idempotency_key("l", "e", "s", 1)
    assert seed("ab", "c") != seed("a", "bc")


payloads = st.one_of(st.none(), st.integers(0, 9), st.text(max_size=3))
links = st.tuples(
    st.integers(1, 3), st.text(max_size=2), st.integers(1, 3), st.text(max_size=2),
    st.integers(1, 2), payloads,
)  # fmt: skip
commits = st.tuples(st.integers(0, 2), st.lists(links, max_size=3))


@pytest.mark.parametrize("size", [chain.SIZE, chain.FLAT_SIZE])
@given(one=commits, two=commits)
def test_different_commits_give_different_values(size: int, one: Any, two: Any) -> None:
    start = chain.genesis("t", "l", 1)
    same = repr(one) == repr(two)
    assert (chain.value(size, start, *one) == chain.value(size, start, *two)) is same
    assert chain.value(size, start, *one) != chain.value(size, chain.genesis("t", "l", 2), *one)


def test_the_chain_is_part_of_the_format() -> None:
    start = chain.genesis("tenant", "lineage", 1_700_000_000_000)
    events: list[chain.Link] = [(1, "a", 1, "order", 1, '{"x":"é"}'), (2, "a", 20, "(timer)", 1, 5)]
    digests = [chain.digest(*event) for event in events]
    assert start.hex() == "baf5600b5e3be14a6554cfe17682c229"
    assert [digest.hex() for digest in digests] == [
        "51bcd831ccb840286db890c0",
        "eeacac63f97c82a7b64cc0f9",
    ]
    value = chain.seal(start, 1_700_000_000_001, digests)
    assert value == chain.value(chain.SIZE, start, 1_700_000_000_001, events)
    assert value.hex() == "67e68558373c2b2c0226135f"
    # What versions 1 and 2 wrote.
    value = chain.value(chain.FLAT_SIZE, start, 1_700_000_000_001, events[:1])
    assert value.hex() == "96e52fea3bfe646872f8305d9abd63da"


# Durability ---------------------------------------------------------------------------------------


def test_what_level_holds() -> None:
    weak, middle, strong = Durability
    assert effective(weak, None) is weak
    assert effective(weak, strong, middle) is middle
    assert effective(middle, strong, weak) is middle
    assert effective(strong, None, None) is strong


class Slow:
    """A barrier that answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.answers: asyncio.Queue[Outcome] = asyncio.Queue()

    async def prove(self, sequence: int) -> Proof:
        self.asked.append(sequence)
        return Proof(await self.answers.get())


def test_one_request_covers_whoever_waits_when_it_starts() -> None:
    async def main() -> None:
        barrier, committed, released = Slow(), 5, list[int]()
        proofs = Proofs(barrier, committed=lambda: committed, on_fenced=lambda: None, pause=0)

        async def wait(sequence: int) -> None:
            await proofs.wait(sequence)
            released.append(sequence)

        tasks = [asyncio.create_task(wait(sequence)) for sequence in (5, 3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        committed = 9
        tasks += [asyncio.create_task(wait(sequence)) for sequence in (9, 7)]
        await asyncio.sleep(0)
        assert barrier.asked == [5]
        for outcome in (Outcome.TIMED_OUT, Outcome.DURABLE, Outcome.DURABLE):
            barrier.answers.put_nowait(outcome)
        await asyncio.gather(*tasks)
        # The one that timed out was asked again, for what had been committed by then.
        assert barrier.asked == [5, 9]
        assert released == [3, 5, 7, 9]
        assert proofs.sequence == 9
        await proofs.wait(9)

    asyncio.run(main())


def test_fenced_ends_every_wait() -> None:
    async def main() -> None:
        barrier, fenced = Slow(), list[bool]()
        proofs = Proofs(barrier, committed=lambda: 5, on_fenced=lambda: fenced.append(True))
        waits = [asyncio.create_task(proofs.wait(sequence)) for sequence in (1, 5)]
        barrier.answers.put_nowait(Outcome.FENCED)
        found = await asyncio.gather(*waits, return_exceptions=True)
        assert [type(error) for error in found] == [EngineStopped, EngineStopped]
        assert fenced == [True]
        with pytest.raises(EngineStopped):
            await proofs.wait(1)
        await proofs.close()

    asyncio.run(main())


# The guard ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "act",
    [
        lambda: Path(__file__).read_bytes(),
        lambda: Path("never-made").mkdir(),
        lambda: list(Path().iterdir()),
        lambda: socket.socket(),
        lambda: subprocess.run([sys.executable, "-c", ""], check=True),
        lambda: threading.Thread(target=print).start(),
    ],
    ids=["read", "mkdir", "list", "socket", "process", "thread"],
)
def test_a_turn_cannot_reach_the_world(act: Callable[[], object]) -> None:
    guard.install()
    guard.enter()
    try:
        with pytest.raises(DeterminismError):
            act()
    finally:
        guard.leave()
    assert not Path("never-made").exists()


def test_other_threads_and_other_times_are_free() -> None:
    guard.install()
    Path(__file__).read_bytes()
    thread = threading.Thread(target=guard.enter)
    thread.start()
    thread.join()
    Path(__file__).read_bytes()


# Timers -------------------------------------------------------------------------------------------


def test_timers_follow_the_clock_and_come_in_the_order_of_their_deadlines() -> None:
    async def main() -> None:
        now, due = 1000, list[str]()
        timers: Timers[str] = Timers(asyncio.get_running_loop(), lambda: now, due.append)
        for deadline, name in ((3000, "c"), (1500, "a"), (2000, "b"), (9000, "d")):
            timers.add(deadline, name)
        await asyncio.sleep(0)
        assert due == []
        now = 4000
        timers.add(now, "now")
        while len(due) < 4:
            await asyncio.sleep(0)
        assert due == ["a", "b", "c", "now"]
        timers.close()

    asyncio.run(main())


def test_timers_that_are_due_together_let_others_in_between() -> None:
    async def main() -> None:
        due = list[int]()
        loop = asyncio.get_running_loop()
        timers: Timers[int] = Timers(loop, lambda: 100, due.append)
        for number in range(4 * AT_ONCE):
            timers.add(number % 100, number)
        fired = list[int]()
        while len(due) < 4 * AT_ONCE:
            before = len(due)
            await asyncio.sleep(0)
            fired.append(len(due) - before)
        assert max(fired) == AT_ONCE
        assert due == sorted(due, key=lambda number: (number % 100, number))
        timers.close()

    asyncio.run(main())


def test_what_is_no_longer_wanted_wakes_nobody() -> None:
    async def main() -> None:
        now, due, wanted = 0, list[str](), {"b", "c"}
        loop = asyncio.get_running_loop()
        timers: Timers[str] = Timers(loop, lambda: now, due.append, wanted.__contains__)
        assert timers.next() is None
        for deadline, name in ((1, "a"), (2, "b"), (3, "c")):
            timers.add(deadline * 1_000_000, name)
        assert timers.next() == 2_000_000
        now = 2_500_000
        timers.look()
        assert due == ["b"]
        wanted.clear()
        assert timers.next() is None
        timers.close()

    asyncio.run(main())
