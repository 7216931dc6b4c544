"""Which coordinator acts: decided on records, and tried on many schedules of losses."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest

from backup import keys, ownership, records
from backup.errors import Precondition
from backup.lease import RENEW_EVERY, WATCH, Authority, LeaseRecord, LeaseState, Watch, fenced
from backup.memory import MemoryStore
from backup.ownership import NotAllowed, Owner, OwnerRecord, OwnerState
from backup.records import Versioned
from fleet.coordinator.picture import Fence, SeenHost, SeenNode
from fleet.coordinator.seating import TENANT, Seats, Take, decide_seat, is_damaged

STEP = 0.5
SECONDS = 400.0


def host(
    name: str, *, silent: float = 0.0, mine: bool = False, over: bool | None = None
) -> SeenHost:
    lease = LeaseRecord(host=name, incarnation=f"l{name}", proven={TENANT: "1:7"})
    nodes = () if over is None else (SeenNode(TENANT, f"l{name}.n", "active", over),)
    return SeenHost(Versioned(lease, f"e-{name}"), silent, nodes if mine else None, 10.0)


def owned(by: str, state: OwnerState = OwnerState.ACTIVE) -> Versioned[OwnerRecord]:
    owner = Owner(host=by, incarnation=f"l{by}.n")
    record = ownership.claim(None, TENANT, owner, authority_ended=True)
    return Versioned(record.model_copy(update={"state": state}), "e-owner")


def seats(owner: Versioned[OwnerRecord] | None, *hosts: SeenHost) -> Seats:
    return Seats("a", {one.name: one for one in hosts}, owner, 5.0)


def test_the_first_one_takes_the_seat() -> None:
    action = decide_seat(seats(None, host("a", mine=True), host("b")))
    assert action == Take(None, 0, "created", None)


def test_one_that_is_held_is_left() -> None:
    assert decide_seat(seats(owned("b"), host("a", mine=True), host("b"))) is None
    assert decide_seat(seats(owned("a"), host("a", mine=True, over=False), host("b"))) is None


def test_a_holder_that_is_silent_is_fenced_and_then_followed() -> None:
    lost = host("b", silent=WATCH)
    assert decide_seat(seats(owned("b"), host("a", mine=True), lost)) == Fence("b", lost.lease)
    gone = replace(lost, lease=Versioned(fenced(lost.lease.record), "e-b2"))
    action = decide_seat(seats(owned("b"), host("a", mine=True), gone))
    assert action == Take("e-owner", 7, "host_lost", "b")


def test_one_that_was_given_back_is_taken_at_once() -> None:
    owner = owned("b", OwnerState.RELEASED)
    action = decide_seat(seats(owner, host("a", mine=True), host("b")))
    assert isinstance(action, Take)
    assert action.cause == "released"


def test_a_node_of_its_own_that_ended_is_replaced_and_one_that_comes_up_awaited() -> None:
    ended = decide_seat(seats(owned("a"), host("a", mine=True, over=True)))
    assert isinstance(ended, Take)
    coming = owned("a", OwnerState.RELEASED)
    assert decide_seat(seats(coming, host("a", mine=True, over=False))) is None


def test_one_without_a_lease_of_its_own_does_nothing() -> None:
    assert decide_seat(seats(None, host("b"))) is None
    assert decide_seat(seats(None, host("a"))) is None
    mine = host("a", mine=True)
    ended = replace(mine, lease=Versioned(fenced(mine.lease.record), "e"))
    assert decide_seat(seats(None, ended)) is None


def test_a_log_that_is_damaged_is_not_taken() -> None:
    found = seats(owned("b", OwnerState.DAMAGED), host("a", mine=True), host("b"))
    assert is_damaged(found)
    assert decide_seat(found) is None


# -- many schedules ------------------------------------------------------------------------------


@dataclass
class World:
    """Coordinators on one store. ``hasty``: a twin that takes silence for loss too soon."""

    rng: random.Random
    hasty: bool = False
    store: MemoryStore = field(default_factory=MemoryStore)
    now: float = 0.0
    lives: int = 0


class Coordinator:
    """One of them: as `fleet.coordinator.seat` has it, with a node that is up at once."""

    def __init__(self, name: str, world: World) -> None:
        self.name = name
        self.world = world
        self.frozen_until = 0.0
        self.cut_until = 0.0
        self.watched: dict[str, tuple[Versioned[LeaseRecord], Watch, float]] = {}
        self.start()

    def start(self) -> None:
        self.authority: Authority | None = None
        self.lease: Versioned[LeaseRecord] | None = None
        self.claim: OwnerRecord | None = None
        self.watched = {}

    @property
    def acts(self) -> bool:
        alive = self.authority is not None and self.authority.alive(self.world.now)
        return self.claim is not None and alive and self.world.now >= self.frozen_until

    def step(self) -> None:
        now = self.world.now
        if now < self.frozen_until:
            return
        if self.authority is not None and not self.authority.alive(now):
            self.start()
        if now < self.cut_until:
            return
        self.keep_lease()
        if self.lease is not None:
            self.look_and_act()

    def keep_lease(self) -> None:
        now, key = self.world.now, keys.lease(self.name)
        if self.lease is None:
            found = records.read(self.world.store, key, LeaseRecord)
            self.world.lives += 1
            lease = LeaseRecord(host=self.name, incarnation=f"{self.name}{self.world.lives}")
            self.lease = records.swap(self.world.store, key, lease, found.etag if found else None)
            self.authority = Authority.granted(now)
            return
        if now % RENEW_EVERY:
            return
        assert self.authority is not None
        lease = self.lease.record
        try:
            self.lease = records.swap(
                self.world.store,
                key,
                lease.model_copy(update=lease.succeeded_by()),
                self.lease.etag,
            )
        except Precondition:
            self.start()
        else:
            self.authority.renewed(now, now)

    def look_and_act(self) -> None:
        store, now = self.world.store, self.world.now
        for name in list(store.prefixes(keys.HOSTS)):
            lease = records.read(store, keys.lease(name), LeaseRecord)
            assert lease is not None
            watch = self.watched[name][1] if name in self.watched else Watch(lease.etag, now)
            watch.seen(lease.etag, now)
            self.watched[name] = (lease, watch, now)
        owner = records.read(store, keys.owner(TENANT), OwnerRecord)
        assert self.lease is not None
        mine = self.lease.record.incarnation
        if self.claim is not None and (owner is None or owner.record.owner != self.claim.owner):
            self.claim = None
        nodes: tuple[SeenNode, ...] = ()
        if self.claim is not None:
            nodes = (SeenNode(TENANT, self.claim.incarnation, "active", False),)
        hosts = {}
        for name, (lease, watch, _) in self.watched.items():
            own = name == self.name and lease.record.incarnation == mine
            silent = watch.unchanged_for(now)
            hosts[name] = SeenHost(
                lease,
                0.0 if own else silent,
                nodes if own else None,
                now + STEP / 4,
                dead=self.world.hasty and not own and silent > RENEW_EVERY + 1,
                lease_at=now + STEP / 8,
            )
        action = decide_seat(Seats(self.name, hosts, owner, now))
        if isinstance(action, Fence):
            try:
                records.swap(
                    store, keys.lease(action.host), fenced(action.lease.record), action.lease.etag
                )
            except Precondition:
                return
        elif isinstance(action, Take):
            self.take(owner, f"{mine}.{self.world.lives}")

    def take(self, owner: Versioned[OwnerRecord] | None, incarnation: str) -> None:
        me = Owner(host=self.name, incarnation=incarnation)
        try:
            claim = ownership.claim(
                owner.record if owner else None, TENANT, me, authority_ended=True
            )
            key = keys.owner(TENANT)
            written = records.swap(self.world.store, key, claim, owner.etag if owner else None)
            active = ownership.activate(written.record, me, written.record.epoch)
            self.claim = records.swap(self.world.store, key, active, written.etag).record
        except (NotAllowed, Precondition):
            return


def lose_somebody(one: Coordinator, rng: random.Random) -> None:
    how = rng.choice(["freeze", "cut", "kill"])
    until = one.world.now + rng.uniform(1.0, 60.0)
    if how == "freeze":
        one.frozen_until = until
    elif how == "cut":
        one.cut_until = until
    else:
        one.start()
        one.frozen_until = until


def run(seed: int, *, hasty: bool = False) -> list[str]:
    """What went wrong in one schedule."""
    rng = random.Random(seed)
    world = World(rng, hasty)
    all_of_them = [Coordinator(name, world) for name in "abc"]
    wrong = []
    while world.now < SECONDS:
        calm = world.now > SECONDS - 120.0  # long enough for the last one to come back
        for one in rng.sample(all_of_them, len(all_of_them)):
            if not calm and rng.random() < 0.02:
                lose_somebody(one, rng)
            one.step()
            acting = [each.name for each in all_of_them if each.acts]
            if len(acting) > 1:
                wrong.append(f"{world.now}: {acting} act at once")
        world.now += STEP
    if sum(one.acts for one in all_of_them) != 1:
        wrong.append("nobody acts at the end")
    lease = [records.read(world.store, keys.lease(one.name), LeaseRecord) for one in all_of_them]
    assert all(one is None or one.record.state in LeaseState for one in lease)
    return wrong


@pytest.mark.parametrize("seed", range(20))
def test_one_coordinator_acts_and_in_the_end_one_does(seed: int) -> None:
    assert run(seed) == []


def test_one_that_takes_silence_for_loss_too_soon_is_noticed() -> None:
    assert any("at once" in words for seed in range(10) for words in run(seed, hasty=True))
