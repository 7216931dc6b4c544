"""The benchmarks' arithmetic: pairs of rounds, and what counts as met."""

from __future__ import annotations

from typing import Any, cast

from tests.benchmarks.aims import at_least, at_most, wanted
from tests.benchmarks.contest import Entrant, Result, hold
from tests.benchmarks.participant import Participant, ParticipantLost


class Runner:
    """Takes part at a fixed rate, and drops out after `rounds` rounds."""

    def __init__(self, name: str, rate: float, order: list[str], rounds: int = 100) -> None:
        self.name, self.rate, self.order, self.left = name, rate, order, rounds

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        if not self.left:
            raise ParticipantLost(f"{self.name} is gone")
        self.left -= 1
        self.order.append(self.name)
        return {
            "steps": request["workflows"] * 10,
            "seconds": request["workflows"] * 10 / self.rate,
        }


def entrant(runner: Runner, **options: Any) -> Entrant:
    return Entrant(runner.name, cast(Participant, runner), 5, {}, **options)


def test_rounds_are_paired_and_alternate() -> None:
    order: list[str] = []
    ours, floor = Runner("ours", 800, order), Runner("floor", 1000, order)
    result = hold("at once", [entrant(floor), entrant(ours)], 2)
    assert order == ["floor", "ours", "ours", "floor"]
    ratio = result.ratio("ours", "floor")
    assert ratio is not None
    assert (round(ratio.median, 9), ratio.rounds) == (0.8, 2)


def test_one_that_drops_out_keeps_its_rounds_and_says_why() -> None:
    order: list[str] = []
    ours, theirs = Runner("ours", 800, order), Runner("theirs", 10, order, rounds=1)
    result = hold("at once", [entrant(ours), entrant(theirs)], 3)
    assert result.lost == {"theirs": "theirs is gone"}
    ratio = result.ratio("ours", "theirs")
    assert ratio is not None
    assert ratio.rounds == 1


def test_one_that_has_taken_too_long_takes_part_no_more() -> None:
    order: list[str] = []
    ours, slow = Runner("ours", 800, order), Runner("slow", 1, order)
    result = hold("at once", [entrant(ours), entrant(slow, patience=60)], 4)
    assert order.count("ours") == 4
    assert order.count("slow") == 2
    assert result.lost == {}
    ratio = result.ratio("ours", "slow")
    assert ratio is not None
    assert ratio.rounds == 2


def test_only_rounds_that_both_had_are_compared() -> None:
    result = Result("at once", {"a": {0: 10.0, 1: 99.0, 2: 30.0}, "b": {0: 5.0, 2: 5.0}}, {})
    ratio = result.ratio("a", "b")
    assert ratio is not None
    assert (ratio.median, ratio.lowest, ratio.highest, ratio.rounds) == (4.0, 2.0, 6.0, 2)
    assert result.ratio("a", "nobody") is None
    assert result.rate("nobody") is None


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    for aim in (at_least("a", 1, None), at_most("a", 1, None), wanted("a", "all", None)):
        assert aim.as_json()["met"] is None
        assert aim.as_json()["measured"] is None


def test_limits_are_met_at_the_limit_and_missed_beyond() -> None:
    assert [at_least("a", 4, measured).met for measured in (3.9, 4, 5)] == [False, True, True]
    assert [at_most("a", 4, measured).met for measured in (3.9, 4, 5)] == [True, True, False]
    assert [wanted("a", "all", measured).met for measured in (True, False)] == [True, False]
