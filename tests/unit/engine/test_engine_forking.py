"""What a fork begins with, decided on lists for logs."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from node import activity, workflow
from node.engine.beginning import Beginning, standing
from node.engine.errors import ForkRefused
from node.engine.events import TIMER_STEP, Event, Kind
from node.engine.fork_source import Source, cut_at
from node.engine.forked import (
    Forked,
    ForkedFrom,
    ForkMode,
    Identity,
    Kept,
    KeptOutcome,
    Letter,
    Recorded,
    Stretch,
    Supply,
    retimed,
)
from node.engine.forking import Fork, exact, record, results, reuse
from node.engine.run import Run
from node.engine.steps import Command
from node.engine.verified import verify_execution
from node.testing import Rehearsal

WHO = Identity("rehearsal", "test", "test")
LATER = 1_800_000_000_000


@activity
async def step(name: str) -> str:
    raise AssertionError("a rehearsal runs no activity")


@workflow
async def leaf() -> str:
    return await step("leaf")


@workflow
async def work() -> list[object]:
    first = await step("a")
    found = await asyncio.gather(step("b"), step("c"), leaf.child())
    await workflow.sleep(60)
    return [first, *found, workflow.uuid4().hex, workflow.now().timestamp()]


def played() -> Rehearsal:
    play = Rehearsal(work)
    play.now += 1000
    play.complete("step", "A")
    play.now += 1000
    play.complete("step", "C", 3)
    play.signal("word", 1, key="k")
    play.now += 1000
    play.complete("step", "B", 2)
    play.tell(Kind.CHILD_COMPLETED, ("leaf", 1), '"L"')
    return play


def source(play: Rehearsal) -> Source:
    return Source(WHO, standing(play.log))


def rehearsed(key: str, fork: Fork) -> Run:
    history = standing(fork.history(key, at=LATER))
    run = Run(
        key=key,
        workflow=work,
        beginning=Beginning.of(history[0]),
        tenant="test",
        lineage="test",
    )
    fork_beyond[key] = list(run.replay(history))
    return run


fork_beyond: dict[str, list[Command]] = {}


def forked(of: Source, key: str, at: str | int | None, **more: bool) -> Fork:
    options = {"messages": True, "paused": False} | more

    def rehearse(fork: Fork) -> list[Command]:
        rehearsed(key, fork).drop()
        return fork_beyond[key]

    return exact(of, key, at, now=LATER, rehearse=rehearse, **options)


def test_a_step_is_named_in_many_ways() -> None:
    play = played()
    known = source(play)
    b = next(e for e in play.log if e.kind is Kind.STEP_COMPLETED and e.occurrence == 2)
    called = next(e for e in play.log if e.kind is Kind.STEP and e.occurrence == 2)
    for at in ("step#2", b.sequence, called.sequence):
        assert cut_at(known, at) == cut_at(known, "step#2")
    assert cut_at(known, "step#2").sequence == b.sequence
    assert cut_at(known, "step").step == ("step", 1)
    assert cut_at(known, None).sequence == play.log[-1].sequence + 1
    timer = cut_at(known, TIMER_STEP)
    assert (timer.step, timer.sequence) == ((TIMER_STEP, 1), play.log[-1].sequence + 1)
    signal = next(e for e in play.log if e.kind is Kind.SIGNAL)
    assert cut_at(known, signal.sequence).step is None
    for at in ("nothing", "step#9", "step#x", 0, 999):
        with pytest.raises(ForkRefused):
            cut_at(known, at)


def test_what_stands_and_what_is_kept() -> None:
    play = played()
    fork = forked(source(play), "fork", "step#3")
    assert fork.again == (("step", 3),)
    assert {(one.name, one.occurrence) for one in fork.kept.outcomes} == {("step", 2), ("leaf", 1)}
    assert fork.kept.letters == (Letter(Kind.SIGNAL, "word", 1, '{"v":1,"k":"k"}'),)
    assert fork.dropped == ()
    assert forked(source(play), "fork", "step#3", messages=False).kept.letters == ()
    # One that is not kept is another execution.
    early = Rehearsal(work)
    early.complete("step", "A")
    open_one = forked(source(early), "fork", None)
    child = next(payload for kind, _, _, payload in open_one.stands if kind is Kind.CHILD)
    assert json.loads(str(child))["id"] == "fork.leaf.1"
    assert open_one.forked.renamed == {"rehearsal.leaf.1": "fork.leaf.1"}


def test_a_fork_of_a_fork_is_who_each_of_them_was() -> None:
    play = played()
    play.fire((TIMER_STEP, 1))
    was = json.loads(str(play.outcome))
    known = source(play)
    # Its very end again: what it drew was drawn before.
    timer = known.history[-2]
    twin = forked(known, "twin", timer.sequence)
    run = rehearsed("twin", twin)
    assert run.info().id == "rehearsal"
    history = standing(twin.history("twin", at=LATER))
    assert history[0].at == play.log[0].at
    assert all(event.at < LATER for event in history[3:])
    run.deliver(Kind.TIMER_FIRED, (TIMER_STEP, 1), None, LATER + 60_000)
    assert run.info().id == "twin"
    told = Event(99, "twin", Kind.TIMER_FIRED, TIMER_STEP, 1, None, LATER + 60_000, 99)
    second = Source(replace(WHO, execution="twin"), standing([*history, told]))
    third = forked(second, "third", None)
    assert [(one.commits > 0, one.identity.execution) for one in third.forked.past] == [
        (True, "rehearsal"),
        (True, "twin"),
    ]
    found = json.loads(str(fork_beyond["third"][-1].payload))
    assert found[:4] == was[:4]
    # Of the twin, since it was the twin when it was told.
    assert found[4] != was[4]


def test_a_deadline_that_is_over_is_moved() -> None:
    play = played()
    fork = forked(source(play), "fork", None)
    timers = [payload for kind, _, _, payload in fork.stands if kind is Kind.TIMER]
    deadline = play.log[-1].at + 60_000
    assert timers == [deadline]
    play.fire((TIMER_STEP, 1))
    cut = forked(source(play), "fork", TIMER_STEP)
    timers = [payload for kind, _, _, payload in cut.stands if kind is Kind.TIMER]
    assert timers == [LATER + 60_000]


def test_a_record_has_everything_and_an_end() -> None:
    play = played()
    fork = record(source(play))
    assert fork.stands[-1][0] is Kind.TERMINATED
    play.fire((TIMER_STEP, 1))
    fork = record(source(play))
    assert [row[0] for row in fork.stands] == [event.kind for event in play.log[1:]]
    history = fork.history("r")
    verify_execution(history)
    for length in range(1, len(history)):
        with pytest.raises(ValueError, match=r"all there|no intent"):
            verify_execution(history[:length])


def test_results_are_taken_once_and_by_what_is_the_same() -> None:
    known = [
        Recorded("a", None, '{"x":1,"y":2}', "1"),
        Recorded("a", None, '{"x":1,"y":2}', "2"),
        Recorded("a", "2", '{"x":1,"y":2}', "3"),
    ]
    supply = Supply(known)
    assert supply.take("a", None, '{"y": 2, "x": 1}') == known[0]
    assert supply.left() == known[1:]
    assert supply.take("a", None, '{"x":1,"y":2}') == known[1]
    assert supply.take("a", None, '{"x":1,"y":2}') is None
    assert supply.take("b", "2", '{"x":1,"y":2}') is None
    assert supply.take("a", "2", '{"x":1,"y":3}') is None
    assert supply.take("a", "2", '{"x":1,"y":2}') == known[2]
    used = [
        Event(1, "e", Kind.STEP, "a", 1, '{"x":1,"y":2}', 0, 0),
        Event(2, "e", Kind.STEP_VERSION, "a", 1, "2", 0, 0),
        Event(3, "e", Kind.STEP_REUSED, "a", 1, "3", 0, 0),
    ]
    assert Supply(known, used).left() == known[:2]
    assert results(used) == [known[2]]


def test_reuse_begins_anew() -> None:
    play = played()
    fork = reuse(source(play), "fork", '{"new":1}', None, messages=True, paused=True)
    assert (fork.beginning.input, fork.beginning.paused) == ('{"new":1}', True)
    assert fork.beginning.signals == (("word", "1"),)
    assert [one.result for one in fork.kept.results] == ['"A"', '"B"', '"C"']
    assert fork.stands == ()
    assert fork.forked.source.mode is ForkMode.REUSE
    before = reuse(source(play), "fork", "{}", "step#2", messages=False, paused=False)
    assert [one.result for one in before.kept.results] == ['"A"', '"C"']
    assert before.beginning.signals == ()


def test_what_a_schedule_began_goes_on_as_that() -> None:
    play = played()
    origin = Event(2, "rehearsal", Kind.ORIGIN, "work", 1, '{"schedule":["hourly",7000]}', 0, 0)
    log = [play.log[0], origin, *(one._replace(sequence=one.sequence + 1) for one in play.log[1:])]
    known = Source(WHO, standing(log))
    for fork in (
        forked(known, "fork", None),
        reuse(known, "f", "{}", None, messages=True, paused=True),
    ):
        assert fork.forked.schedule == ("hourly", 7000)
        assert "schedule" not in str(list(fork.rows(None))[1])
    info = rehearsed("fork", forked(known, "fork", None)).info()
    assert (info.id, info.schedule) == ("rehearsal", "hourly")


def test_what_the_log_holds_is_read_back() -> None:
    forked = Forked(
        ForkedFrom("a", ForkMode.EXACT, 7, "acme", "line", "00"),
        True,
        ((0, 5), (2, 6), (1, 9)),
        (
            Stretch(1, Identity("a", "acme", "line", 2, b"s")),
            Stretch(2, Identity("b", "acme", "line")),
        ),
        {"leaf": "x"},
        ("hourly", 7),
    )
    beginning = Beginning("{}", paused=True, forked=forked)
    assert Beginning.read(beginning.payload()) == beginning
    assert [forked.identity(-n) for n in range(5)] == [
        None,
        forked.past[0].identity,
        forked.past[1].identity,
        forked.past[1].identity,
        None,
    ]
    kept = Kept(
        (KeptOutcome(Kind.STEP_REUSED, "a", 1, None, "2"),),
        (Recorded("a", None, "{}", "1"),),
        (Letter(Kind.SIGNAL, "s", 2, '{"v":1}'),),
    )
    assert Kept.read(kept.payload()) == kept
    assert Kept().payload() == "{}"
    first = Event(11, "f", Kind.FORKED, "w", 1, beginning.payload(), 100, 20)
    rest = [Event(n, "f", Kind.ORIGIN, "w", 1, "{}", 100, 20) for n in range(12, 20)]
    found = retimed([first, *rest])
    assert [(e.at, e.commit) for e in found] == [
        (5, -1),
        (100, 20),
        (100, 20),
        (6, -2),
        (6, -2),
        (9, -3),
        *[(100, 20)] * 3,
    ]
    assert retimed(found) == found
