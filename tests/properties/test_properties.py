"""Random programs survive, and engines that are broken in one rule are noticed.

`make properties` runs thousands of programs, in every way each. Here each is run in one way.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.properties import strategies
from tests.properties.programs import Program
from tests.properties.twins import (
    TWINS,
    Patch,
    counts_at_completion,
    forgets_attempts,
    forgets_families,
    forgets_pauses,
    forgets_the_keys_of_messages,
    gives_turns_to_the_dead,
    has_chance_of_its_own,
    logs_transactions_afterwards,
    replays_timers_as_they_are_due,
    starts_before_its_intent,
    tells_signals_again,
    tells_the_end_before_its_commit,
    tells_without_logging,
)
from tests.properties.ways import WAYS, survives

#: How many programs of each kind; each is then run in all ways.
MANY = int(os.environ.get("PROPERTIES", "0"))

programs = settings(
    max_examples=MANY or 60,
    deadline=None,
    database=None,
    # Always the same ones in the default run, others each time where many are asked for.
    derandomize=not MANY,
    print_blob=bool(MANY),
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)
ways = st.sampled_from(sorted(WAYS))


@pytest.mark.timeout(0 if MANY else 120)
@programs
@given(strategies.apart, ways)
def test_a_program_that_can_end_in_one_way_ends_in_it(program: Program, way: str) -> None:
    survives(program, None if MANY else [way])


@pytest.mark.timeout(0 if MANY else 120)
@programs
@given(strategies.together, ways)
def test_a_program_in_which_everything_meets_keeps_the_laws(program: Program, way: str) -> None:
    survives(program, None if MANY else [way])


NOTICED_BY = {
    counts_at_completion: Program(["gather", ["step", "slow", 1], ["step", "slow", 0]]),
    tells_signals_again: Program(
        ["seq", ["receive", "go", None], ["step", "async", 0], ["receive", "go", 2]],
        [[0, "signal", "go", 1, 0]],
    ),
    replays_timers_as_they_are_due: Program(
        ["all", ["seq", ["sleep", 1], ["step", "async", 0]], ["sleep", 2]]
    ),
    tells_the_end_before_its_commit: Program(
        [
            "seq",
            ["child", ["seq", ["step", "async", 0], ["step", "table", 0]], "detached"],
            ["step", "slow", 0],
        ]
    ),
    logs_transactions_afterwards: Program(["step", "table", 0]),
    has_chance_of_its_own: Program(["seq", ["step", "async", 0], ["chance"]]),
    forgets_the_keys_of_messages: Program(["step", "async", 0], [[0, "signal", "go", 1, 0]]),
    forgets_families: Program(
        ["seq", ["child", ["receive", "stop", None], "left"], ["step", "async", 0], ["sleep", 1]],
        apart=True,
    ),
    forgets_attempts: Program(["step", "async", 1]),
    forgets_pauses: Program(
        ["seq", ["sleep", 2], ["step", "async", 0]],
        [[1, "pause", 0], [3, "signal", "go", 1, 0], [4, "resume", 0]],
        apart=True,
    ),
    starts_before_its_intent: Program(
        [
            "seq",
            ["child", ["step", "table", 0], "detached"],
            ["step", "async", 0],
            ["step", "async", 0],
        ]
    ),
    gives_turns_to_the_dead: Program(["child", ["count"], "queued"], workflow="queued"),
    tells_without_logging: Program(["seq", ["sleep", 1], ["step", "async", 0]]),
}


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.__name__)
def test_a_broken_engine_is_noticed(twin: object, monkeypatch: Patch) -> None:
    assert callable(twin)
    program = NOTICED_BY[twin]
    survives(program)
    twin(monkeypatch)
    with pytest.raises(Exception):  # noqa: B017, PT011 - whichever law it breaks first
        survives(program)
