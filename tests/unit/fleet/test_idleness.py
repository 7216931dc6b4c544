"""When a tenant that has nothing to do is put to sleep, and when it is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.lag import Lag
from backup.lease import LeaseRecord
from backup.ownership import Deletion, Move, Origin, Owner, OwnerRecord, OwnerState, TenantRecord
from backup.records import Versioned
from fleet.coordinator.account import Tenant
from fleet.coordinator.idleness import STOPS_PER_HOST, may_sleep, sleeps
from fleet.coordinator.picture import Picture, SeenHost, SeenTenant, Sleep, Sleeping
from node.idleness import SETTLED, Quiet
from node.order import NodeState, NodeStatus

SLEEPING = Sleeping(after=100.0, least=60.0)
WALL = 1_000_000.0


def owned(state: OwnerState = OwnerState.ACTIVE, host: str = "h") -> Versioned[OwnerRecord]:
    owner = Owner(host=host, incarnation="l.n")
    record = OwnerRecord(
        tenant="t", lineage="x", epoch=2, host=owner.host, incarnation="l.n", state=state
    )
    return Versioned(record, "e")


def wanted(**more: object) -> TenantRecord:
    return TenantRecord(tenant="t", app="app", **more)  # type: ignore[arg-type]


IDLE = SeenTenant(wanted(), owned(), 5.0, idle_for=100.0)


def test_a_tenant_that_was_idle_for_long_enough_may_sleep() -> None:
    assert may_sleep(IDLE, SLEEPING, WALL)
    assert may_sleep(replace(IDLE, next_wake=WALL + 60), SLEEPING, WALL)
    assert may_sleep(replace(IDLE, wanted=wanted(sleep_after=1), idle_for=1.0), SLEEPING, WALL)
    assert may_sleep(replace(IDLE, wanted=wanted(sleep_after=1)), Sleeping(after=0), WALL)


@pytest.mark.parametrize(
    "seen",
    [
        replace(IDLE, idle_for=99.0),
        replace(IDLE, requested=True),
        replace(IDLE, next_wake=WALL + 59),
        replace(IDLE, next_wake=WALL - 5),
        replace(IDLE, ordered="h"),
        replace(IDLE, owner=None),
        replace(IDLE, owner=owned(OwnerState.RESTORING)),
        replace(IDLE, owner=owned(OwnerState.DRAINING)),
        replace(IDLE, owner=owned(OwnerState.DAMAGED)),
        replace(IDLE, wanted=wanted(asleep=True)),
        replace(IDLE, wanted=wanted(sleep_after=0)),
        replace(IDLE, wanted=wanted(sleep_after=101)),
        replace(IDLE, wanted=wanted(move=Move(epoch=2, host="other", asked_at=0))),
        replace(IDLE, wanted=wanted(deletion=Deletion(number=1, asked_at=0, purge_after=0))),
        replace(
            IDLE, wanted=wanted(restore=Origin(tenant="t", lineage="x", epoch=1, txid=1, number=1))
        ),
    ],
)
def test_any_other_stays_awake(seen: SeenTenant) -> None:
    assert not may_sleep(seen, SLEEPING, WALL)


def test_nobody_sleeps_where_that_is_off() -> None:
    assert not may_sleep(IDLE, Sleeping(after=0), WALL)


def pictured(count: int, **host: object) -> Picture:
    lease = Versioned(LeaseRecord(host="h", incarnation="l"), "e")
    tenants = {f"t{n}": IDLE for n in range(count)}
    return Picture(
        {"h": SeenHost(lease, 0.0, (), 5.0, **host)},  # type: ignore[arg-type]
        tenants,
        60.0,
        wall=WALL,
        sleeping=SLEEPING,
    )


def test_a_host_stops_a_few_at_once() -> None:
    picture = pictured(10)
    first = list(sleeps(picture))
    assert first == [Sleep(f"t{n}") for n in range(STOPS_PER_HOST)]
    falling = replace(IDLE, wanted=wanted(asleep=True))
    later = replace(picture, tenants={**picture.tenants, "t0": falling, "t1": falling})
    assert list(sleeps(later)) == [Sleep("t2"), Sleep("t3")]


def test_nobody_is_put_to_sleep_on_a_host_that_is_silent_or_drained() -> None:
    assert list(sleeps(pictured(3, draining=True))) == []
    picture = pictured(3)
    silent = {"h": replace(picture.hosts["h"], nodes=None)}
    assert list(sleeps(replace(picture, hosts=silent))) == []


def status(rest: int | None, **more: object) -> NodeStatus:
    given = {"state": NodeState.ACTIVE, "serving": True, "incarnation": "l.n", **more}
    return NodeStatus(tenant="t", rest=rest, **given)  # type: ignore[arg-type]


def idle_after(*seen: tuple[float, NodeStatus]) -> float:
    """For how long a tenant is idle 100 s on, whose node was seen like this."""
    tenant = Tenant(wanted(), owned())
    for at, node in seen:
        tenant.note_rest(node, at)
    return tenant.seen(100.0).idle_for


def test_how_long_it_is_idle_is_counted_from_when_that_was_first_seen() -> None:
    assert idle_after((10, status(1)), (20, status(1))) == 90
    assert idle_after((10, status(1)), (20, status(2))) == 80  # it had something in between
    assert idle_after((10, status(1)), (20, status(None))) == 0
    assert idle_after((10, status(1)), (20, status(1, incarnation="l.m"))) == 80
    assert idle_after((10, status(1)), (20, status(1, serving=False))) == 0
    assert idle_after((10, status(1)), (20, status(1, lag=Lag(seconds=0.5)))) == 0


Seen = Callable[[Quiet, int, bool, bool, float, float], bool]


def really(quiet: Quiet, sequence: int, rest: bool, asked: bool, last: float, now: float) -> bool:
    return quiet.seen(sequence, at_rest=rest, asked=asked, last=last, now=now)


def deaf(quiet: Quiet, sequence: int, rest: bool, asked: bool, last: float, now: float) -> bool:
    """A broken twin: it does not hear of requests that are over when it looks."""
    return quiet.seen(sequence, at_rest=rest, asked=asked, last=0.0, now=now)


Look = tuple[float, bool, bool, bool, bool]
looks = st.lists(
    st.tuples(st.floats(min_value=0.1, max_value=2), *(st.booleans() for _ in range(4))),
    min_size=1,
    max_size=40,
)


def wrong(seen: Seen, through: list[Look]) -> bool:
    """Whether it is ever said to have settled although something happened just before."""
    quiet, now, sequence, last, happened = Quiet(0.0), 0.0, 0, 0.0, 0.0
    for pause, asked_between, commits, works, asked in through:
        if asked_between:
            last = happened = now + pause / 2
        now += pause
        sequence += commits
        if commits or works or asked:
            happened = now
        settled = seen(quiet, sequence, not works, asked, last, now)
        if settled and now - happened < SETTLED - 1e-6:
            return True
    return False


@given(looks)
def test_what_has_just_happened_is_never_missed(through: list[Look]) -> None:
    assert not wrong(really, through)


def test_who_is_deaf_to_requests_is_noticed() -> None:
    through = [(1.0, False, False, False, False)] * 5 + [(1.0, True, False, False, False)]
    assert wrong(deaf, through)
    assert not wrong(really, through)
