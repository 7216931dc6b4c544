"""Thousands of bad days of a fleet under the ownership protocol, and its broken twins.

A failing seed prints its schedule. To look at one again, or at that of a twin:
``python -m tests.simulation.look SEED [RULE]``.
"""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from tests.simulation.checks import summary
from tests.simulation.faults import FLEET_FAULTS, HOST_FAULTS
from tests.simulation.fleet_run import Run, run
from tests.simulation.rules import ALL, NAMES, OF_DELETING, OF_RESTORING, Rules, without

SEEDS = 2000
"""Seeds of the protocol itself, about 12 ms of one core each."""
DELETING = 600
"""Seeds in which tenants are deleted as well."""
RESTORING = 600
"""Seeds in which tenants are taken back to past states."""
CHUNK = 100
SEARCH = 4000
"""Seeds among which a twin must be caught, when those that are pinned no longer do it."""

CAUGHT: dict[str, tuple[str, tuple[int, ...]]] = {
    "fence_before_claim": ("needless", (3, 6, 8)),
    "fence_what_was_watched": ("needless", (6, 15, 153)),
    "watch_outlasts_deadline": ("needless", (0, 5, 21)),
    "deadline_from_sending": ("needless", (88, 101, 137)),
    "nodes_have_deadlines": ("effects", (5, 23, 31)),
    "effects_ask_the_deadline": ("effects", (15, 39, 158)),
    "join_watches": ("needless", (5, 31, 42)),
    "over_means_dead": ("needless", (41, 72, 85)),
    "sync_before_ack": ("durable", (3, 9, 11)),
    "owner_read": ("durable", (41, 55, 93)),
    "owner_read_after_sync": ("durable", (117, 182, 212)),
    "claim_decided_version": ("needless", (2, 3, 13)),
    "claim_swaps": ("needless", (78, 101, 201)),
    "newer_lease": ("needless", (1310, 1764, 2352)),
    "fresh_epoch": ("epochs", (5, 8, 10)),
    "keep_parent": ("epochs", (0, 10, 17)),
    "only_active_parents": ("epochs", (0, 10, 17)),
    "newer_node_list": ("needless", (54, 296, 318)),
    "unclear_is_over": ("needless", (141, 425, 604)),
    "no_fixed_cut": ("durable", (0, 5, 30)),
    "relist": ("damage", (5, 46, 54)),
    "gap_check": ("durable", (0, 5, 30)),
    "floors": ("durable", (30, 54, 60)),
    "base_before_active": ("damage", (89, 127, 136)),
    "only_content_damages": ("damage", (17, 51, 73)),
    "pacing": ("storm", (43, 55, 113)),
    "brake": ("brake", (3, 8, 24)),
    "orders_end_with_the_lease": ("settles", (629, 691, 1705)),
    "sleepers_are_left": ("sleep", (3, 7, 15)),
    "sleepers_say_until_when": ("settles", (3, 7, 27)),
    "sleepers_wake_in_time": ("settles", (3, 7, 27)),
    "lost_sleepers_are_restored": ("settles", (11, 63, 67)),
    "room_before_drain": ("room", (43, 55, 67)),
    "moves_are_carried_out_once": ("stable", (7, 27, 31)),
    "bury_as_a_claim": ("needless", (1, 3, 5)),
    "settled_once": ("brought back", (17, 31, 51)),
    "restore_after_release": ("left", (4, 7)),
    "restore_once": ("durable", (9, 18, 24)),
    "origin_is_copied": ("restored", (9, 13, 17)),
    "created_after": ("resurrected", (604, 733, 990)),
}
"""For each rule the invariant that breaks without it, and seeds that show it."""


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_the_protocol_holds(first: int) -> None:
    for seed in range(first, first + CHUNK):
        outcome = run(seed)
        assert outcome.violation is None, outcome.report()


@pytest.mark.parametrize("first", range(0, RESTORING, CHUNK))
def test_restores_in_place_keep_to_it(first: int) -> None:
    for seed in range(first, first + CHUNK):
        outcome = run(seed, restoring=True)
        assert outcome.violation is None, outcome.report()


@pytest.mark.parametrize("first", range(0, DELETING, CHUNK))
def test_deletions_keep_to_it(first: int) -> None:
    for seed in range(first, first + CHUNK):
        outcome = run(seed, deleting=True)
        assert outcome.violation is None, outcome.report()


def test_everything_is_exercised() -> None:
    """A fault or an event that never comes proves nothing."""
    seen: Counter[str] = Counter()
    for seed in range(150):
        seen.update(run(seed).seen)
        seen.update(run(seed, deleting=True).seen)
        seen.update(run(seed, restoring=True).seen)
    expected = {
        *(f"fault: {kind}" for kind in (*HOST_FAULTS, *FLEET_FAULTS)),
        *("acknowledged", "brake", "claimed", "damaged", "effect", "fenced", "released"),
        *("created", "given_up", "host_lost", "node_lost", "moved", "wake"),
        *("drain: sleep", "drain: move", "drain: host_drained"),
        *("restore asked", "restored in place", "restored"),
        *("deletion", "buried", "brought back", "purged", "created again"),
    }
    assert expected <= set(seen), f"never: {sorted(expected - set(seen))}; seen: {summary(seen)}"


def test_a_seed_is_a_schedule() -> None:
    for seed in (3, 4, 5):
        first, second = run(seed), run(seed)
        assert first.account == second.account
        assert (first.seen, first.ended_at) == (second.seen, second.ended_at)


def day(seed: int, rule: str, rules: Rules = ALL) -> Run:
    """A seed's run, with what must happen in it beside faults for a rule to be needed."""
    return run(seed, rules, deleting=rule in OF_DELETING, restoring=rule in OF_RESTORING)


def caught(rule: str, invariant: str, pinned: tuple[int, ...]) -> Run | None:
    """The first seed, pinned ones before others, whose run without ``rule`` breaks it."""
    for seed in itertools.chain(pinned, range(SEARCH)):
        outcome = day(seed, rule, without(rule))
        if outcome.violation is not None and outcome.violation.rule == invariant:
            return outcome
    return None


@pytest.mark.parametrize("rule", NAMES)
def test_without_a_rule_it_does_not_hold(rule: str) -> None:
    invariant, pinned = CAUGHT[rule]
    found = caught(rule, invariant, pinned)
    assert found is not None, f"nobody would notice if {rule!r} were dropped"
    # The very same day, with the rule: it is the rule that the day shows the need of.
    with_it = day(found.seed, rule)
    assert with_it.violation is None, with_it.report()


def test_the_account_of_a_failure_can_be_read() -> None:
    invariant, pinned = CAUGHT["owner_read"]
    found = caught("owner_read", invariant, pinned)
    assert found is not None
    told = found.report()
    assert told.startswith(f"seed {found.seed}: durable: ")
    assert "FAULT" in told
    assert "lease fenced" in told
