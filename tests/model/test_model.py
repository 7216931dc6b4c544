"""The protocol of ownership, explored to the last state of small worlds, and its broken twins.

A failing world prints the shortest way to what broke. The simulation (`tests/simulation`) takes
samples of large worlds, with the real coordinator's decisions; here the worlds are small and
nothing is left out: every order of the steps, every moment for a fault.
"""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from tests.model.protocol import served, steps
from tests.model.rules import ALL, NAMES, Rules, without
from tests.model.search import Broken, Found, TooMany, search
from tests.model.world import Budget, Config, World, beginning

LIMIT = 400_000
"""States; none of the worlds has as many, so that none is cut off in silence."""

WORLDS: dict[str, Config] = {
    "a host falls silent": Config(Budget(commits=2, orders=1, joins=1)),
    "a host is paused": Config(Budget(commits=1, orders=1, joins=1, pauses=1)),
    "a renewal is slow": Config(Budget(commits=1, orders=1, joins=1, slow_renewals=1)),
    "a renewal is slow and its host paused": Config(
        Budget(commits=1, orders=1, joins=0, slow_renewals=1, pauses=1)
    ),
    "a node dies": Config(Budget(commits=2, orders=1, joins=0, deaths=1)),
    "a node dies, a host falls silent": Config(Budget(orders=2, joins=0, deaths=1)),
    "two hosts in turn": Config(Budget(orders=2, joins=1)),
    "a machine starts anew": Config(Budget(commits=2, orders=1, joins=1, crashes=1)),
    "a machine starts anew with an old disk": Config(
        Budget(commits=2, orders=1, joins=1, crashes=1, rollbacks=1), clocks=False
    ),
    "a machine and its clone": Config(Budget(commits=1, orders=2, joins=2), leases=(0, 0)),
    "a record arrives late": Config(Budget(commits=1, orders=2, joins=0, late_records=1)),
    "a release arrives late": Config(
        Budget(commits=1, orders=1, joins=0, drains=1, late_records=1)
    ),
    "a tenant is handed over": Config(Budget(commits=2, orders=1, joins=0, drains=1)),
    "a list is short": Config(Budget(commits=2, orders=1, joins=0, lies=1)),
    "a list is short while files move": Config(
        Budget(commits=1, orders=1, joins=0, compactions=1, lies=1), clocks=False
    ),
    "a list is short after a hand-over": Config(
        Budget(commits=2, orders=1, joins=0, drains=1, lies=1)
    ),
    "an upload arrives late": Config(Budget(commits=2, orders=1, joins=0, late_files=1)),
    "files move while they are listed": Config(
        Budget(commits=2, orders=1, joins=0, compactions=2), clocks=False
    ),
    "nobody knows the time": Config(Budget(commits=2, orders=2, joins=0), clocks=False),
    "claims that come to nothing": Config(Budget(orders=3, joins=0, deaths=2), clocks=False),
    "the store loses a base": Config(
        Budget(commits=1, orders=2, joins=0, deaths=1, lost_files=1), clocks=False
    ),
    "the store loses a record": Config(
        Budget(commits=1, orders=1, joins=0, lost_records=1), clocks=False
    ),
    "a tenant is deleted and brought back": Config(
        Budget(commits=1, orders=1, joins=0, drains=1, burials=1, erasures=1)
    ),
    "a tenant is deleted, and nobody knows the time": Config(
        Budget(commits=2, orders=1, joins=0, burials=1, erasures=1), clocks=False
    ),
    "a claim is buried": Config(Budget(orders=2, joins=0, deaths=1, burials=1, erasures=1)),
    "a remover is stopped": Config(
        Budget(orders=1, joins=0, drains=1, burials=1, erasures=1, stalls=1), clocks=False
    ),
    "an upload arrives after a removal": Config(
        Budget(commits=2, orders=1, joins=0, burials=1, erasures=1, late_files=1), clocks=False
    ),
}
"""Each begins with a served tenant and a second host; only the clone's begins with nothing."""

CAUGHT: dict[str, tuple[str, str]] = {
    "swaps": ("durable", "a record arrives late"),
    "unclear_is_over": ("handed over", "a release arrives late"),
    "fence_before_claim": ("one engine", "a host falls silent"),
    "fence_what_was_watched": ("one engine", "a host falls silent"),
    "watch_outlasts_deadline": ("one engine", "a host falls silent"),
    "counted_from_sending": ("one engine", "a renewal is slow"),
    "deadline_first": ("one engine", "a host is paused"),
    "own_deadlines": ("one engine", "a host falls silent"),
    "join_watches": ("one engine", "a machine and its clone"),
    "sync_before_ack": ("durable", "a host falls silent"),
    "commits_before_sync": ("durable", "a host falls silent"),
    "owner_read": ("durable", "nobody knows the time"),
    "owner_read_after_sync": ("durable", "nobody knows the time"),
    "claim_decided_version": ("one engine", "two hosts in turn"),
    "newer_lease": ("one engine", "two hosts in turn"),
    "newer_node_list": ("one engine", "two hosts in turn"),
    "fresh_epoch": ("prefix", "a host falls silent"),
    "keep_parent": ("damage", "claims that come to nothing"),
    "only_active_parents": ("damage", "a record arrives late"),
    "new_epoch_after_crash": ("prefix", "a machine starts anew with an old disk"),
    "list_after_claim": ("durable", "nobody knows the time"),
    "levels_upwards": ("durable", "files move while they are listed"),
    "relist": ("damage", "a list is short"),
    "gap_check": ("floor", "a list is short"),
    "floor_of_release": ("handed over", "a list is short after a hand-over"),
    "floor_of_lease": ("floor", "a list is short"),
    "no_walking_back": ("durable", "the store loses a base"),
    "empty_is_made_sure_of": ("durable", "the store loses a record"),
    "fresh_folder": ("history", "a node dies"),
    "tail_goes_on": ("durable", "a machine starts anew with an old disk"),
    "base_before_active": ("durable", "nobody knows the time"),
    "engine_stops_first": ("handed over", "a tenant is handed over"),
    "release_is_proven": ("handed over", "a tenant is handed over"),
    "bury_as_a_claim": ("one engine", "a tenant is deleted and brought back"),
    "buried_is_a_parent": ("durable", "a tenant is deleted and brought back"),
    "mark_before_removal": ("damage", "a tenant is deleted and brought back"),
    "wait_for_writers": ("gone", "a claim is buried"),
    "remove_only_the_past": ("neighbour", "a remover is stopped"),
    "epoch_outlives_erasure": ("damage", "an upload arrives after a removal"),
}
"""For each rule the invariant that breaks without it, and the world in which it does."""


def explore(name: str, rules: Rules = ALL) -> Found[World]:
    """All that can happen in a world under some rules, or up to the first thing that breaks."""
    config = WORLDS[name]._replace(rules=rules)
    first = beginning(config) if len(set(config.leases)) == 1 else served(config)
    return search(first, lambda world: steps(world, config), LIMIT)


@cache
def _explored(name: str) -> Found[World]:
    return explore(name)


@pytest.mark.parametrize("name", WORLDS)
def test_the_protocol_holds(name: str) -> None:
    found = _explored(name)
    assert found.broken is None, found.report()
    assert found.states > 1000, "there is nothing to explore"


@pytest.mark.parametrize("rule", NAMES)
def test_without_a_rule_it_does_not_hold(rule: str) -> None:
    invariant, name = CAUGHT[rule]
    found = explore(name, without(rule))
    assert found.broken is not None, f"nobody would notice if {rule!r} were dropped"
    assert found.broken.invariant == invariant, found.report()


def test_every_world_and_every_invariant_is_needed() -> None:
    """A world without a twin of its own is there for a fault; those are looked at below."""
    assert {invariant for invariant, _ in CAUGHT.values()} == {
        *("durable", "one engine", "damage", "prefix", "history", "floor", "handed over"),
        *("gone", "neighbour"),
    }


def test_everything_happens() -> None:
    """A step that no world ever takes proves nothing."""
    seen: Counter[str] = Counter()
    for name in (
        *("a host falls silent", "a renewal is slow", "a host is paused", "a node dies"),
        *("a machine starts anew with an old disk", "a record arrives late"),
        *("a release arrives late", "an upload arrives late", "a list is short while files move"),
        *("the store loses a record", "a list is short"),
        *("a tenant is deleted and brought back", "a remover is stopped"),
    ):
        seen += _explored(name).steps
    small = Config(Budget(orders=2, joins=0, lost_files=1), clocks=False)
    seen += search(served(small), lambda world: steps(world, small), LIMIT).steps
    empty = Config(Budget(orders=1, joins=2))
    seen += search(beginning(empty), lambda world: steps(world, empty), LIMIT).steps
    assert set(seen) == STEPS


STEPS = {
    *("tick", "join", "watch", "renew", "send", "land", "answer", "abandon", "refused"),
    *("pause", "resume", "crash", "rollback", "die"),
    *("look", "fence", "order", "superseded", "claim", "lose-claim"),
    *("empty", "list", "list-short", "restore", "restore-short", "relist", "relist-short"),
    *("damage", "base", "activate", "lose-activation"),
    *("commit", "upload", "lose-upload", "sync", "read", "fenced", "acknowledge"),
    *("drain", "final", "release", "lose-release"),
    *("compact", "expire", "lose", "lose-record"),
    *("bury", "bring-back", "mark", "remove", "erase", "stall", "wake"),
}


def test_the_shortest_way_is_told() -> None:
    told = explore("nobody knows the time", without("owner_read")).report()
    assert told.startswith("durable: ")
    assert told.index("fence h0") < told.index("claim n2") < told.index("acknowledge n1")


def test_a_search_that_is_cut_off_shows_nothing() -> None:
    with pytest.raises(TooMany):
        search(0, lambda number: [("next", number + 1)], limit=10)
    found = search(0, lambda number: [("next", (number + 1) % 5)], limit=10)
    assert (found.states, found.steps["next"]) == (5, 5)


def test_what_breaks_is_found_the_shortest_way() -> None:
    def stumbling(number: int) -> list[tuple[str, int]]:
        if number == 4:
            raise Broken("four", "there it is")
        return [("one", number + 1), ("two", number + 2)]

    found = search(0, stumbling, limit=100)
    assert found.broken is not None
    assert found.way == ("two", "two")
