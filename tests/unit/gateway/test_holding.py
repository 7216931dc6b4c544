"""Send, hold or give up: what becomes of a request, whatever happens to its tenant meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.gateway.holding import AGAIN, GiveUp, Hold, Send, Standing, Tried, Way, judge

NOW, UNTIL = 100.0, 110.0
OLD, NEW = Way("http://a", "/t", 1), Way("http://b", "/t", 2)
Judge = Callable[..., Send | Hold | GiveUp]


def test_a_request_goes_to_who_serves_now() -> None:
    there = Standing(NEW, 2, coming=True)
    assert judge(there, None, repeatable=False, now=NOW, until=UNTIL) == Send(NEW)
    # Even if it may not be held at all.
    assert judge(there, None, repeatable=False, now=NOW, until=NOW) == Send(NEW)


def test_it_is_held_while_somebody_is_coming_and_not_for_ever() -> None:
    moving = Standing(None, 2, coming=True)
    assert judge(moving, None, repeatable=False, now=NOW, until=UNTIL) == Hold(10.0)
    assert isinstance(judge(moving, None, repeatable=True, now=UNTIL, until=UNTIL), GiveUp)


def test_it_is_not_held_where_nobody_will_come() -> None:
    damaged = Standing(None, 2, coming=False)
    assert judge(damaged, None, repeatable=True, now=NOW, until=UNTIL) == GiveUp(30)


def test_a_node_of_an_older_epoch_is_no_way() -> None:
    assert judge(Standing(OLD, 2, coming=True), None, repeatable=True, now=NOW, until=UNTIL) == (
        Hold(10.0)
    )


def test_what_could_not_be_sent_is_sent_to_the_next_or_a_little_later() -> None:
    unsent = Tried(OLD, sent=False, again_at=NOW + AGAIN)
    same, other = Standing(OLD, 1, coming=True), Standing(NEW, 2, coming=True)
    assert judge(other, unsent, repeatable=False, now=NOW, until=UNTIL) == Send(NEW)
    assert judge(same, unsent, repeatable=False, now=NOW, until=UNTIL) == Hold(AGAIN)
    assert judge(same, unsent, repeatable=False, now=NOW + AGAIN, until=UNTIL) == Send(OLD)


standings = st.builds(
    Standing,
    way=st.sampled_from([None, OLD, NEW]),
    epoch=st.integers(min_value=1, max_value=3),
    coming=st.booleans(),
)


def sent_how_often(
    judge: Judge, seen: list[tuple[Standing, bool]], repeatable: bool
) -> tuple[int, list[Way]]:
    """Play a request through what is seen, each attempt to send failing: how often a node may have
    got it, and to whom it was sent."""
    tried: Tried | None = None
    now, got, ways = NOW, 0, []
    for standing, reached in seen:
        step = judge(standing, tried, repeatable=repeatable, now=now, until=UNTIL)
        if isinstance(step, GiveUp):
            break
        if isinstance(step, Hold):
            assert 0 < step.seconds <= UNTIL - now
            now += step.seconds
            continue
        assert step.way.epoch >= standing.epoch
        ways.append(step.way)
        got += reached
        tried = Tried(step.way, reached or (tried is not None and tried.sent), now + AGAIN)
    return got, ways


@given(st.lists(st.tuples(standings, st.booleans()), max_size=12), st.booleans())
def test_whatever_happens_only_what_is_repeatable_may_come_twice(
    seen: list[tuple[Standing, bool]], repeatable: bool
) -> None:
    got, _ = sent_how_often(judge, seen, repeatable)
    assert repeatable or got <= 1


def forgetful(standing: Standing, tried: Tried | None, **rest: object) -> Send | Hold | GiveUp:
    """A broken twin: it forgets that something was sent."""
    again = Tried(tried.way, sent=False, again_at=tried.again_at) if tried else None
    return judge(standing, again, **rest)  # type: ignore[arg-type]


def test_a_gateway_that_forgets_what_it_sent_is_noticed() -> None:
    ways = [Standing(OLD, 1, coming=True), Standing(NEW, 2, coming=True)]
    seen = [(standing, True) for standing in ways]
    assert sent_how_often(judge, seen, repeatable=False)[0] == 1
    assert sent_how_often(forgetful, seen, repeatable=False)[0] == 2


@pytest.mark.parametrize(
    ("way", "coming", "repeatable"), list(product([None, OLD, NEW], [False, True], [False, True]))
)
def test_there_is_always_an_end(way: Way | None, coming: bool, repeatable: bool) -> None:
    tried = Tried(OLD, sent=repeatable, again_at=UNTIL)
    step = judge(Standing(way, 1, coming), tried, repeatable=repeatable, now=UNTIL, until=UNTIL)
    assert isinstance(step, GiveUp)
