"""A host's lease through joining, renewing and losing it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from backup import keys, records
from backup.errors import Ambiguous, Unreachable
from backup.lease import SELF_FENCE_AFTER, WATCH, LeaseRecord, LeaseState, Load, fenced
from backup.memory import MemoryStore, Operation
from fleet.agent.authority import ClockSkewed, LeaseKeeper, LeaseLost, clock_skew


class World:
    """A store, a clock that only moves when told, and one host's keeper."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.now = 1000.0
        self.slept = 0.0

    def keeper(self, host: str = "h") -> LeaseKeeper:
        return LeaseKeeper(
            self.store,
            host,
            lambda: Load(address="http://h"),
            lambda: {"t": "1:7"},
            clock=lambda: self.now,
            sleep=self.sleep,
        )

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds

    def lease(self) -> LeaseRecord:
        found = records.read(self.store, keys.lease("h"), LeaseRecord)
        assert found is not None
        return found.record

    def write(self, record: LeaseRecord) -> None:
        found = records.read(self.store, keys.lease("h"), LeaseRecord)
        records.swap(self.store, keys.lease("h"), record, found.etag if found else None)


def test_the_first_join_takes_the_lease_at_once() -> None:
    world = World()
    keeper = world.keeper()
    asyncio.run(keeper.join())
    assert world.lease().incarnation == keeper.incarnation
    assert world.slept == 0.0
    assert keeper.authority is not None
    assert keeper.authority.deadline == world.now + SELF_FENCE_AFTER


def test_a_fenced_lease_is_taken_at_once_under_a_new_incarnation() -> None:
    world = World()
    world.write(fenced(LeaseRecord(host="h", incarnation="old")))
    keeper = world.keeper()
    asyncio.run(keeper.join())
    assert world.slept == 0.0
    assert world.lease().incarnation == keeper.incarnation != "old"
    assert world.lease().state is LeaseState.LIVE


def test_somebody_elses_live_lease_is_watched_for_its_full_time() -> None:
    """Two agents with one identity: the second must be sure that the first one's nodes are dead."""
    world = World()
    world.write(LeaseRecord(host="h", incarnation="old"))
    asyncio.run(world.keeper().join())
    assert WATCH <= world.slept <= WATCH + 1.0


def test_a_lease_that_goes_on_being_renewed_is_not_taken() -> None:
    world = World()
    world.write(LeaseRecord(host="h", incarnation="old"))
    renewals = 0

    async def sleep(seconds: float) -> None:
        nonlocal renewals
        await World.sleep(world, seconds)
        if renewals < 20 and world.now % 5 < seconds:
            renewals += 1
            world.write(world.lease().model_copy(update=world.lease().succeeded_by()))

    world.sleep = sleep  # type: ignore[method-assign]
    asyncio.run(world.keeper().join())
    assert renewals == 20
    assert world.slept >= 20 * 5 + WATCH - 5


def joined(world: World) -> LeaseKeeper:
    keeper = world.keeper()
    asyncio.run(keeper.join())
    return keeper


def test_a_renewal_moves_the_deadline_and_tells_what_is_proven() -> None:
    world = World()
    keeper = joined(world)
    world.now += 5.0
    assert asyncio.run(keeper.renew()) == world.now + SELF_FENCE_AFTER
    assert world.lease().proven == {"t": "1:7"}
    assert world.lease().rev == 2


def test_after_a_pause_past_the_deadline_nothing_is_even_sent() -> None:
    world = World()
    keeper = joined(world)
    world.now += SELF_FENCE_AFTER
    world.store.operations.clear()
    with pytest.raises(LeaseLost, match="deadline"):
        asyncio.run(keeper.renew())
    assert world.store.operations == []


def test_a_renewal_that_comes_back_too_late_is_a_loss() -> None:
    world = World()
    keeper = joined(world)

    def freeze(operation: Operation, key: str) -> None:
        if operation == "put":
            world.now += 60.0

    world.store.fault = freeze
    with pytest.raises(LeaseLost, match="after the deadline"):
        asyncio.run(keeper.renew())


def test_a_fence_ends_the_incarnation() -> None:
    world = World()
    keeper = joined(world)
    world.write(fenced(world.lease()))
    with pytest.raises(LeaseLost, match="fenced"):
        asyncio.run(keeper.renew())


def test_another_holder_ends_the_incarnation() -> None:
    world = World()
    keeper = joined(world)
    world.write(LeaseRecord(host="h", incarnation="other"))
    with pytest.raises(LeaseLost, match="another agent"):
        asyncio.run(keeper.renew())


def test_a_revocation_is_adopted_without_extending_the_deadline() -> None:
    world = World()
    keeper = joined(world)
    before = keeper.authority.deadline if keeper.authority else 0.0
    record = world.lease()
    world.write(record.model_copy(update=record.succeeded_by(revoked={"t": 3})))
    world.now += 5.0
    assert asyncio.run(keeper.renew()) == before
    assert keeper.revoked == {"t": 3}
    assert asyncio.run(keeper.renew()) == world.now + SELF_FENCE_AFTER


def test_a_store_that_does_not_answer_is_no_loss_yet() -> None:
    world = World()
    keeper = joined(world)
    world.store.fault = lambda operation, key: Unreachable("down")

    def failing(operation: Operation, key: str) -> Ambiguous:
        world.now += 6.0
        return Ambiguous("no answer")

    world.store.fault = failing
    with pytest.raises(Ambiguous):
        asyncio.run(keeper.renew())
    world.store.fault = None
    with pytest.raises(LeaseLost):
        asyncio.run(keeper.renew())


def test_resigning_spares_others_the_wait() -> None:
    world = World()
    keeper = joined(world)
    asyncio.run(keeper.resign())
    assert world.lease().state is LeaseState.FENCED
    joined(world)
    assert world.slept == 0.0


@pytest.mark.parametrize("seconds", [-60.0, 60.0])
def test_a_host_with_a_wrong_clock_takes_no_lease(seconds: float) -> None:
    world = World()
    keeper = LeaseKeeper(
        world.store,
        "h",
        Load,
        dict,
        clock=lambda: world.now,
        today=lambda: datetime.now(UTC) + timedelta(seconds=seconds),
    )
    with pytest.raises(ClockSkewed, match="NTP"):
        asyncio.run(keeper.join())
    assert world.store.objects == {}


def test_skew_allows_for_whole_seconds_and_for_the_time_of_asking() -> None:
    noon = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)

    def at(seconds: float) -> datetime:
        return noon + timedelta(seconds=seconds)

    assert clock_skew(at(0.9), at(0.0), at(1.0)) == 0.0
    assert clock_skew(at(0.0), at(3.0), at(5.0)) == 0.0
    assert clock_skew(at(10.0), at(0.0), at(10.1)) == 9.0
    assert clock_skew(at(0.0), at(10.0), at(0.5)) == 9.5


def resumed(world: World, deadline: float) -> tuple[LeaseKeeper, bool]:
    keeper = world.keeper()
    return keeper, asyncio.run(keeper.resume("mine", deadline))


def test_an_agent_goes_on_with_the_lease_of_the_one_before_it() -> None:
    world = World()
    world.write(LeaseRecord(host="h", incarnation="mine"))
    keeper, goes_on = resumed(world, world.now + 5.0)
    assert goes_on
    assert asyncio.run(keeper.renew()) == world.now + SELF_FENCE_AFTER
    assert world.lease().incarnation == "mine"
    assert world.slept == 0.0


@pytest.mark.parametrize(
    "lease",
    [
        fenced(LeaseRecord(host="h", incarnation="mine")),
        LeaseRecord(host="h", incarnation="another"),
    ],
)
def test_a_lease_that_is_over_or_anothers_is_not_gone_on_with(lease: LeaseRecord) -> None:
    world = World()
    world.write(lease)
    assert not resumed(world, world.now + 5.0)[1]


def test_after_its_deadline_nobody_goes_on_with_a_lease() -> None:
    world = World()
    world.write(LeaseRecord(host="h", incarnation="mine"))
    assert not resumed(world, world.now)[1]


def test_a_store_that_is_away_is_asked_until_the_deadline_and_not_beyond() -> None:
    world = World()
    world.write(LeaseRecord(host="h", incarnation="mine"))
    world.store.fault = lambda operation, key: Unreachable("away")
    keeper, goes_on = resumed(world, world.now + 5.0)
    assert not goes_on
    assert 5.0 <= world.slept <= 6.0
    assert keeper.authority is None
