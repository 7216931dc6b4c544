"""What the coordinator does about a picture."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backup import ownership
from backup.lease import TTL, WATCH, LeaseRecord, fenced
from backup.ownership import Move, Origin, Owner, OwnerRecord, OwnerState, TenantRecord
from backup.records import Versioned
from fleet.coordinator.decide import decide
from fleet.coordinator.picture import (
    Action,
    Brake,
    Drain,
    Fence,
    Picture,
    SeenHost,
    SeenNode,
    SeenTenant,
    Start,
    Upgrade,
    Wake,
)
from fleet.coordinator.placement import STARTS_PER_HOST


def host(
    name: str,
    *,
    silent: float = 0.0,
    incarnation: str | None = None,
    nodes: tuple[SeenNode, ...] | None = (),
    ended: bool = False,
    proven: dict[str, str] | None = None,
    dead: bool = False,
    nodes_at: float = 10.0,
) -> SeenHost:
    lease = LeaseRecord(host=name, incarnation=incarnation or f"l{name}", proven=proven or {})
    lease = fenced(lease) if ended else lease
    return SeenHost(Versioned(lease, f"e-{name}"), silent, nodes, nodes_at, dead)


def owned(by: str, state: OwnerState = OwnerState.ACTIVE, epoch: int = 1) -> OwnerRecord:
    owner = Owner(host=by, incarnation=f"l{by}.n")
    record = ownership.claim(None, "t", owner, authority_ended=True)
    return record.model_copy(update={"state": state, "epoch": epoch})


def tenant(record: OwnerRecord | None = None, name: str = "t", **more: object) -> SeenTenant:
    wanted = TenantRecord(tenant=name, app="app")
    owner = Versioned(record, "e-owner") if record else None
    return SeenTenant(wanted, owner, 5.0, **more)  # type: ignore[arg-type]


def node(of: str, name: str = "t", *, over: bool = False) -> SeenNode:
    return SeenNode(name, f"l{of}.n", "active", over)


def picture(
    hosts: list[SeenHost], tenants: dict[str, SeenTenant] | None = None, **more: object
) -> Picture:
    more.setdefault("watching_for", 1000.0)
    return Picture({each.name: each for each in hosts}, tenants or {}, **more)  # type: ignore[arg-type]


def starts(actions: object) -> list[Start]:
    assert isinstance(actions, list)
    return [action for action in actions if isinstance(action, Start)]


def test_a_healthy_fleet_is_left_alone() -> None:
    seen = picture([host("a", nodes=(node("a"),)), host("b")], {"t": tenant(owned("a"))})
    assert decide(seen) == []


def test_a_new_tenant_goes_to_the_host_that_carries_least() -> None:
    seen = picture([host("a", nodes=(node("a", "x"),)), host("b")], {"t": tenant()})
    (start,) = starts(decide(seen))
    assert (start.host, start.expected, start.cause) == ("b", None, "created")


def test_new_tenants_are_spread() -> None:
    many = {f"t{n}": tenant(name=f"t{n}") for n in range(6)}
    chosen = [start.host for start in starts(decide(picture([host(n) for n in "abc"], many)))]
    assert sorted(chosen) == ["a", "a", "b", "b", "c", "c"]


def test_a_silent_host_is_fenced_before_its_tenants_move() -> None:
    seen = picture([host("a", silent=WATCH, nodes=None), host("b")], {"t": tenant(owned("a"))})
    actions = decide(seen)
    assert [type(action) for action in actions] == [Fence]
    after = picture([host("a", ended=True, nodes=None), host("b")], {"t": tenant(owned("a"))})
    (start,) = starts(decide(after))
    assert (start.host, start.cause, start.authority_ended) == ("b", "host_lost", True)
    assert (start.expected, start.from_host, start.from_epoch) == ("e-owner", "a", 1)


@pytest.mark.parametrize("silent", [0.0, 5.0, WATCH - 0.1])
def test_nothing_is_fenced_early(silent: float) -> None:
    seen = picture([host("a", silent=silent, nodes=None), host("b")], {"t": tenant(owned("a"))})
    assert decide(seen) == []


def test_a_coordinator_that_has_just_begun_watches_first() -> None:
    silent = [host("a", silent=WATCH), host("b")]
    assert decide(picture(silent, watching_for=TTL - 0.1)) == []
    assert [type(action) for action in decide(picture(silent, watching_for=TTL))] == [Fence]


def test_a_host_known_dead_is_fenced_at_once() -> None:
    seen = picture([host("a", dead=True), host("b")], watching_for=0.0)
    assert [type(action) for action in decide(seen)] == [Fence]


def test_a_host_that_came_back_under_a_new_incarnation_owns_nothing() -> None:
    seen = picture(
        [host("a", incarnation="new", nodes=()), host("b", nodes=(node("b", "x"),))],
        {"t": tenant(owned("a"))},
    )
    (start,) = starts(decide(seen))
    assert (start.cause, start.host) == ("host_lost", "a")


def test_a_node_that_its_own_agent_calls_over_is_replaced() -> None:
    seen = picture([host("a", nodes=(node("a", over=True),)), host("b")], {"t": tenant(owned("a"))})
    (start,) = starts(decide(seen))
    assert start.cause == "node_lost"


def test_an_agent_that_does_not_answer_proves_nothing() -> None:
    seen = picture([host("a", nodes=None), host("b")], {"t": tenant(owned("a"))})
    assert decide(seen) == []


def test_a_list_of_nodes_older_than_the_record_proves_nothing() -> None:
    """Acting on it would take a tenant from a healthy node that the list does not have yet."""
    stale = picture([host("a", nodes=(), nodes_at=4.0), host("b")], {"t": tenant(owned("a"))})
    assert decide(stale) == []
    fresh = picture([host("a", nodes=(), nodes_at=6.0), host("b")], {"t": tenant(owned("a"))})
    assert [start.cause for start in starts(decide(fresh))] == ["node_lost"]


def test_an_order_under_way_is_not_given_twice() -> None:
    seen = picture([host("a"), host("b")], {"t": tenant(ordered="a")})
    assert decide(seen) == []


@pytest.mark.parametrize("state", [OwnerState.DAMAGED, OwnerState.DELETED])
def test_damaged_and_deleted_are_not_started(state: OwnerState) -> None:
    seen = picture([host("a", ended=True), host("b")], {"t": tenant(owned("a", state))})
    assert decide(seen) == []


def test_a_released_tenant_is_started_without_any_fence() -> None:
    seen = picture([host("a"), host("b")], {"t": tenant(owned("a", OwnerState.RELEASED))})
    assert [start.cause for start in starts(decide(seen))] == ["released"]


def test_a_claim_given_up_is_made_anew_elsewhere() -> None:
    record = owned("a", OwnerState.RESTORING).model_copy(update={"host": "", "incarnation": ""})
    seen = picture(
        [host("a"), host("b", nodes=(node("b", "x"),))],
        {"t": tenant(record, failed_on=frozenset({"a"}))},
    )
    assert [start.host for start in starts(decide(seen))] == ["b"]


def test_the_floor_is_what_was_proven_of_the_epoch_that_is_restored() -> None:
    proven = {"t": "1:42"}
    seen = picture(
        [host("a", ended=True, proven=proven), host("b")], {"t": tenant(owned("a", epoch=1))}
    )
    assert starts(decide(seen))[0].floor_txid == 42
    other = picture(
        [host("a", ended=True, proven=proven), host("b")], {"t": tenant(owned("a", epoch=2))}
    )
    assert starts(decide(other))[0].floor_txid == 0


def test_starts_that_another_coordinator_ordered_count_too() -> None:
    restoring = tuple(SeenNode(f"x{n}", f"la.{n}", "restoring", False) for n in range(3))
    many = {f"t{n}": tenant(name=f"t{n}") for n in range(9)}
    chosen = starts(decide(picture([host("a", nodes=restoring)], many)))
    assert len(chosen) == STARTS_PER_HOST - 3


def test_an_older_lease_of_another_incarnation_proves_nothing() -> None:
    """It may be the owner's predecessor: acting on it would take a tenant from a healthy node."""
    older = replace(host("a", incarnation="before", nodes=None), lease_at=4.0)
    assert decide(picture([older, host("b")], {"t": tenant(owned("a"))})) == []
    newer = replace(host("a", incarnation="after"), lease_at=6.0)
    chosen = starts(decide(picture([newer, host("b")], {"t": tenant(owned("a"))})))
    assert [start.cause for start in chosen] == ["host_lost"]


def test_an_owner_whose_lease_could_not_be_read_yet_is_left_alone() -> None:
    assert decide(picture([host("b")], {"t": tenant(owned("a"))})) == []


def test_starts_are_paced_for_each_host() -> None:
    many = {f"t{n:02}": tenant(name=f"t{n:02}") for n in range(20)}
    assert len(starts(decide(picture([host("a"), host("b")], many)))) == 2 * STARTS_PER_HOST


def test_unfit_hosts_get_nothing() -> None:
    unfit = [host("a", silent=9.0), host("b", nodes=None), host("c", ended=True)]
    assert starts(decide(picture(unfit, {"t": tenant()}))) == []


def fleet_of(total: int, lost: int) -> list[SeenHost]:
    return [host(f"h{n}", silent=WATCH if n < lost else 0.0) for n in range(total)]


@pytest.mark.parametrize(
    ("total", "lost", "brakes"),
    [
        (3, 1, False),
        (3, 2, False),
        (3, 3, True),
        (9, 3, True),
        (10, 3, False),
        (100, 30, False),
        (100, 31, True),
    ],
)
def test_the_brake(total: int, lost: int, brakes: bool) -> None:
    actions = decide(picture(fleet_of(total, lost)))
    assert any(isinstance(action, Brake) for action in actions) is brakes
    assert sum(isinstance(action, Fence) for action in actions) == (0 if brakes else lost)


def test_a_resumed_brake_fences_what_was_confirmed() -> None:
    actions = decide(picture(fleet_of(9, 4), resumed=frozenset({"h0", "h1", "h2"})))
    assert {action.host for action in actions if isinstance(action, Fence)} == {"h0", "h1", "h2"}
    assert [action.hosts for action in actions if isinstance(action, Brake)] == [("h3",)]


def released(seen: SeenTenant, release: int) -> SeenTenant:
    return replace(seen, wanted=seen.wanted.model_copy(update={"release": release}))


def test_a_node_with_an_older_release_is_told_of_the_new_one() -> None:
    wanted = released(tenant(owned("a")), 2)
    old = replace(node("a"), release=1)
    seen = picture([host("a", nodes=(old,)), host("b")], {"t": wanted})
    assert decide(seen) == [Upgrade("t", "a")]
    # Once is enough for a while.
    waits = replace(wanted, upgrade_after=1.0)
    assert decide(picture([host("a", nodes=(old,))], {"t": waits}, now=0.5)) == []
    assert decide(picture([host("a", nodes=(old,))], {"t": waits}, now=1.0)) == [Upgrade("t", "a")]


@pytest.mark.parametrize(
    "seen",
    [
        host("a", nodes=(replace(node("a"), release=2),)),
        host("a", nodes=(replace(node("a"), release=3),)),
        host("a", nodes=(replace(node("a"), state="restoring"),)),
        host("a", nodes=None),
        host("a", nodes=(node("a"),), silent=10.0),
    ],
)
def test_nobody_is_told_who_has_it_or_is_not_there_to_hear(seen: SeenHost) -> None:
    wanted = released(tenant(owned("a")), 2)
    assert not any(isinstance(act, Upgrade) for act in decide(picture([seen], {"t": wanted})))


def test_another_claims_node_is_not_told() -> None:
    other = SeenNode("t", "la.other", "active", over=False, release=0)
    seen = picture([host("a", nodes=(other, node("a")))], {"t": released(tenant(owned("a")), 1)})
    assert decide(seen) == [Upgrade("t", "a")]
    seen = picture([host("a", nodes=(other,))], {"t": released(tenant(owned("a")), 1)})
    assert not any(isinstance(act, Upgrade) for act in decide(seen))


def going_back(number: int = 1) -> Origin:
    return Origin(tenant="t", lineage="l", epoch=1, txid=7, number=number)


def told_to_go_back(record: OwnerRecord | None, **more: object) -> SeenTenant:
    seen = tenant(record, **more)  # type: ignore[arg-type]
    return replace(seen, wanted=seen.wanted.model_copy(update={"restore": going_back()}))


def test_a_tenant_that_is_to_go_back_is_stopped_first() -> None:
    running = {"t": told_to_go_back(owned("a"))}
    (action,) = decide(picture([host("a", nodes=(node("a"),)), host("b")], running))
    assert action == Drain("t", "a", "restore")


def test_it_is_told_once_in_a_while_and_while_its_host_answers() -> None:
    hosts = [host("a", nodes=(node("a"),)), host("b")]
    told = {"t": told_to_go_back(owned("a"), drain_after=5.0)}
    assert decide(picture(hosts, told, now=4.0)) == []
    silent = [host("a", nodes=None), host("b")]
    assert decide(picture(silent, {"t": told_to_go_back(owned("a"))})) == []


@pytest.mark.parametrize("state", [OwnerState.RELEASED, OwnerState.DAMAGED])
def test_then_it_is_started_from_the_past_state(state: OwnerState) -> None:
    stopped = {"t": told_to_go_back(owned("a", state))}
    (start,) = starts(decide(picture([host("a"), host("b")], stopped)))
    assert (start.origin, start.cause) == (going_back(), "restored")


def test_a_restore_that_was_taken_up_is_not_ordered_again() -> None:
    hosts = [host("a"), host("b")]
    record = owned("a", OwnerState.RELEASED).model_copy(update={"restored": 1})
    (start,) = starts(decide(picture(hosts, {"t": told_to_go_back(record)})))
    assert (start.origin, start.cause) == (None, "released")
    damaged = record.model_copy(update={"state": OwnerState.DAMAGED})
    assert decide(picture(hosts, {"t": told_to_go_back(damaged)})) == []


def test_a_host_lost_before_it_has_stopped_is_recovered_from_first() -> None:
    """So that an asynchronous tail on a live host is not lost for the undo."""
    lost = {"t": told_to_go_back(owned("a"))}
    (start,) = starts(decide(picture([host("a", ended=True), host("b")], lost)))
    assert (start.origin, start.cause) == (None, "host_lost")


# -- where tenants run, and whether they do -----------------------------------------------------


def wanting(seen: SeenTenant, **wanted: object) -> SeenTenant:
    return replace(seen, wanted=seen.wanted.model_copy(update=wanted))


def drained(actions: list[Action]) -> list[tuple[str, str, str]]:
    return [(one.tenant, one.host, one.cause) for one in actions if isinstance(one, Drain)]


def test_a_tenant_that_shall_sleep_is_stopped_and_not_started() -> None:
    hosts = [host("a", nodes=(node("a"),)), host("b")]
    active = wanting(tenant(owned("a")), asleep=True)
    assert drained(decide(picture(hosts, {"t": active}))) == [("t", "a", "sleep")]
    told = replace(active, drain_after=1.0)
    assert decide(picture(hosts, {"t": told})) == []
    released = wanting(tenant(owned("a", OwnerState.RELEASED)), asleep=True)
    never_ran = wanting(tenant(), asleep=True)
    for one in (released, never_ran):
        assert decide(picture([host("a"), host("b")], {"t": one})) == []
        (start,) = starts(decide(picture([host("a")], {"t": wanting(one, asleep=False)})))
        assert start.host == "a"
    # What happened on a lost host is in its log only: it is restored, and then stopped.
    lost = [host("a", ended=True), host("b")]
    assert [one.cause for one in starts(decide(picture(lost, {"t": active})))] == ["host_lost"]
    # A past state is made of one that sleeps.
    past = wanting(released, restore=going_back())
    assert [one.cause for one in starts(decide(picture(hosts, {"t": past})))] == ["restored"]


def test_a_sleeper_is_woken_when_its_time_has_come() -> None:
    record = owned("a", OwnerState.RELEASED).model_copy(update={"next_wake": 100.0})
    asleep = wanting(tenant(record), asleep=True)
    for wall, woken in ((99.9, []), (100.0, [Wake("t", "timer")]), (900.0, [Wake("t", "timer")])):
        assert decide(picture([host("a")], {"t": asleep}, wall=wall)) == woken
    for_ever = wanting(tenant(owned("a", OwnerState.RELEASED)), asleep=True)
    assert decide(picture([host("a")], {"t": for_ever}, wall=1e12)) == []
    # One that is active still has no say in it: its next timer is not known before it has stopped.
    active = wanting(tenant(owned("a").model_copy(update={"next_wake": 1.0})), asleep=True)
    assert drained(decide(picture([host("a", nodes=(node("a"),))], {"t": active}, wall=9.0)))


def test_a_cordoned_host_gets_no_tenant_but_its_own() -> None:
    cordoned = replace(host("a"), cordoned=True)
    assert [
        one.host for one in starts(decide(picture([cordoned, host("b")], {"t": tenant()})))
    ] == ["b"]
    assert decide(picture([cordoned], {"t": tenant()})) == []
    # Its own files may have what the bucket lacks.
    back = picture([cordoned, host("b")], {"t": tenant(owned("a"))})
    assert [one.host for one in starts(decide(back))] == ["a"]
    draining = replace(cordoned, draining=True)
    away = picture([draining, host("b")], {"t": tenant(owned("a"))})
    assert [one.host for one in starts(decide(away))] == ["b"]
    assert decide(picture([replace(cordoned, nodes=(node("a"),))], {"t": tenant(owned("a"))})) == []


def named(host: str, count: int) -> tuple[dict[str, SeenTenant], tuple[SeenNode, ...]]:
    """As many tenants on one host."""
    tenants, nodes = {}, []
    for number in range(count):
        name = f"t{number}"
        owner = Owner(host=host, incarnation=f"l{host}.{name}")
        record = ownership.claim(None, name, owner, authority_ended=True)
        tenants[name] = tenant(record.model_copy(update={"state": OwnerState.ACTIVE}), name)
        nodes.append(SeenNode(name, f"l{host}.{name}", "active", False))
    return tenants, tuple(nodes)


def test_a_host_is_drained_no_faster_than_others_have_room() -> None:
    tenants, nodes = named("a", 12)
    draining = replace(host("a", nodes=nodes), cordoned=True, draining=True)
    seen = picture([draining, host("b"), host("c")], tenants)
    found = drained(decide(seen))
    assert len(found) == 2 * STARTS_PER_HOST
    assert {(where, cause) for _, where, cause in found} == {("a", "host_drained")}
    # Those that were told, or have stopped, have their room kept.
    told = {name: replace(one, drain_after=9.0) for name, one in list(tenants.items())[:5]}
    stopped = {
        name: tenant(one.owner.record.model_copy(update={"state": OwnerState.DRAINING}), name)
        for name, one in list(tenants.items())[5:7]
        if one.owner is not None
    }
    assert len(drained(decide(replace(seen, tenants=tenants | told | stopped)))) == 1
    # With nowhere to go they serve where they are.
    alone = picture([draining, replace(host("b"), cordoned=True)], tenants)
    assert decide(alone) == []


def test_a_moved_tenant_goes_where_it_was_told_and_stays_there() -> None:
    hosts = [host("a", nodes=(node("a"),)), host("b"), host("c")]
    moving = wanting(tenant(owned("a")), move=Move(epoch=1, host="c"))
    assert drained(decide(picture(hosts, {"t": moving}))) == [("t", "a", "move")]
    free = [host("a"), host("b"), host("c")]
    for wish, target in (("c", "c"), ("", "b"), ("gone", "b")):
        stopped = wanting(tenant(owned("a", OwnerState.RELEASED)), move=Move(epoch=1, host=wish))
        assert [one.host for one in starts(decide(picture(free, {"t": stopped})))] == [target]
    # There is nobody else: better back than nowhere.
    stopped = wanting(tenant(owned("a", OwnerState.RELEASED)), move=Move(epoch=1))
    assert [one.host for one in starts(decide(picture(free[:1], {"t": stopped})))] == ["a"]
    # Carried out, by whoever took the next epoch: it moves no more.
    there = [host("a"), host("b"), host("c", nodes=(node("c"),))]
    done = wanting(tenant(owned("c", epoch=2)), move=Move(epoch=1, host="c"))
    assert decide(picture(there, {"t": done})) == []
    # The target takes nobody any more: it goes elsewhere once it has stopped, not before.
    full = [host("a", nodes=(node("a"),)), replace(host("c"), cordoned=True)]
    assert decide(picture(full, {"t": moving})) == []


def test_ten_thousand_tenants_over_two_hundred_hosts_cost_few_looks() -> None:
    """How often a host is looked at is bounded by the starts that there is room for, and not by the
    tenants that wait."""
    looks = 0

    class Counting(dict[str, SeenHost]):
        def __getitem__(self, name: str) -> SeenHost:
            nonlocal looks
            looks += 1
            return super().__getitem__(name)

    hosts = Counting({f"h{n}": host(f"h{n}") for n in range(200)})
    tenants = {f"t{n}": tenant(name=f"t{n}") for n in range(10_000)}
    found = starts(decide(Picture(hosts, tenants, 1000.0)))
    assert len(found) == 200 * STARTS_PER_HOST
    assert looks <= len(found) * (len(hosts) + 1)
