"""Whose turn is it, and what keeps a round going?"""

from __future__ import annotations

import asyncio

import pytest

from backup.errors import Unreachable
from fleet.coordinator import rounds
from fleet.coordinator.rounds import NoHost, Rounds, next_due


def test_whoever_waited_longest_is_next() -> None:
    assert next_due({"a": 50.0, "b": 20.0, "c": None}, {}, now=200.0, every=100.0) == "c"
    assert next_due({"a": 50.0, "b": 20.0}, {}, now=200.0, every=100.0) == "b"
    assert next_due({"a": 150.0, "b": 120.0}, {}, now=200.0, every=100.0) is None
    assert next_due({}, {}, now=200.0, every=100.0) is None


def test_one_that_failed_is_tried_again_but_not_at_once() -> None:
    assert next_due({"a": None}, {"a": 195.0}, now=200.0, every=100.0) is None
    assert next_due({"a": None}, {"a": 189.0}, now=200.0, every=100.0) == "a"
    # And it does not keep the others waiting.
    assert next_due({"a": None, "b": 1.0}, {"a": 199.0}, now=200.0, every=100.0) == "b"


def test_what_fails_stays_due_and_the_round_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "LOOK_EVERY", 0.0)
    done: dict[str, float] = {}
    tried: list[str] = []
    now = 1000.0

    async def do(name: str) -> None:
        nonlocal now
        tried.append(name)
        now += 20.0
        if len(tried) == 1:
            raise NoHost("none")
        if len(tried) == 2:
            raise Unreachable("no store")
        done[name] = now

    async def done_at(name: str) -> float | None:
        return done.get(name)

    async def run() -> None:
        turn = Rounds(lambda: ["a", "b"], done_at, do, every=100.0, clock=lambda: now)
        task = asyncio.create_task(turn.run())
        while len(tried) < 4:
            await asyncio.sleep(0)
        task.cancel()

    asyncio.run(run())
    assert tried == ["a", "b", "a", "b"]


def test_never_is_never() -> None:
    async def run() -> None:
        await Rounds(list, _never, _never, every=0.0).run()

    async def _never(_name: str) -> float | None:
        raise AssertionError

    asyncio.run(run())
