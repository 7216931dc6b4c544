"""Hosts with addresses of their own, and what happens to real ones.

One fleet lives through all of it. Around each fault every tenant has an execution under way, and
afterwards somebody outside compares what was promised with what arrived at the receiver.
`HOSTS_ROUNDS=20` has every fault so many times, in an order that `SEED` decides.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from backup.lease import SELF_FENCE_AFTER, WATCH
from tests.docker.lab import Lab, lab, until
from tests.docker.observer import Promise, contradictions

ROUNDS = int(os.environ.get("HOSTS_ROUNDS", "1"))
SEED = int(os.environ.get("SEED", "1"))
HOSTS = ["h1", "h2", "h3", "h4"]
TENANTS = {"acme": "before_effects", "birch": "async", "cedar": "before_effects"}
STEPS = 50


class Story:
    """The fleet, and what it has promised so far."""

    def __init__(self, one: Lab):
        self.lab = one
        self.promises: list[Promise] = []
        self.count = 0

    def home(self, tenant: str) -> str:
        host = self.lab.client.tenant(tenant).host
        assert host is not None
        return host

    def epochs(self) -> dict[str, int]:
        return {tenant: self.lab.client.tenant(tenant).epoch for tenant in TENANTS}

    def begin(self) -> None:
        """Every tenant has work under way when this returns."""
        self.count += 1
        for tenant in TENANTS:
            execution = f"{tenant}-{self.count}"
            assert self.lab.begin(tenant, "act", execution, steps=STEPS, pause=0.1)
            self.promises.append(Promise(tenant, execution, STEPS))

        def working() -> bool:
            seen = {one["execution"] for one in self.lab.ledger()}
            return seen >= {f"{tenant}-{self.count}" for tenant in TENANTS}

        until(working, "every tenant has had an effect")

    def all_right(self) -> None:
        """Everything that was begun has ended with the right result, and was seen outside."""
        for tenant in TENANTS:
            self.lab.serving(tenant)
            assert self.lab.result(tenant, f"{tenant}-{self.count}") == sum(range(STEPS))
        # Whoever is a zombie has had its chance by now.
        for promise in self.promises:
            assert self.lab.result(promise.tenant, promise.execution) == sum(range(STEPS))
        assert contradictions(self.promises, self.lab.ledger(), self.epochs()) == []


@pytest.fixture(scope="module")
def story(engine: Any, image: str) -> Iterator[Story]:
    with lab(engine, image) as one:
        for name in HOSTS:
            one.add_host(name)
        one.joined(*HOSTS)
        for tenant, durability in TENANTS.items():
            one.create(tenant, durability)
        yield Story(one)


def killed(story: Story) -> None:
    home, epoch = story.home("acme"), story.epochs()["acme"]
    story.lab.kill(home)
    story.lab.serving("acme", epoch + 1)
    assert story.home("acme") != home
    story.lab.start_host(home)
    story.lab.joined(home)


def frozen(story: Story) -> None:
    """Paused past the end of its authority: it comes back and believes nothing has happened."""
    home, epoch = story.home("acme"), story.epochs()["acme"]
    story.lab.freeze(home)
    story.lab.serving("acme", epoch + 1)
    story.lab.thaw(home)
    assert story.home("acme") != home
    story.lab.joined(home)


def cut_off_from_store_and_coordinator(story: Story) -> None:
    """The receiver can still be reached: what its engines do beyond their time would be seen."""
    home, epoch = story.home("acme"), story.epochs()["acme"]
    story.lab.cut(home, "store", "coordinator")
    story.lab.serving("acme", epoch + 1)
    assert story.home("acme") != home
    story.lab.heal(home)
    story.lab.joined(home)


def cut_off_from_the_store(story: Story) -> None:
    home, epoch = story.home("birch"), story.epochs()["birch"]
    story.lab.cut(home, "store")
    story.lab.serving("birch", epoch + 1)
    assert story.home("birch") != home
    story.lab.heal(home)
    story.lab.joined(home)


def cut_off_from_the_coordinator(story: Story) -> None:
    """No reason to take anything from anybody: its lease is renewed."""
    home, before = story.home("cedar"), story.epochs()
    story.lab.cut(home, "coordinator")
    time.sleep(WATCH + 3.0)
    ledger = story.lab.ledger()
    mine = [one for one in ledger if one["execution"] == f"cedar-{story.count}"]
    assert {one["body"]["host"] for one in mine} == {home}
    story.lab.heal(home)
    story.lab.serving("cedar")
    assert story.epochs() == before


def back_with_a_stale_disk(story: Story) -> None:
    """Its disk is that of some time ago, as after a restored image of the machine."""
    home, epoch = story.home("birch"), story.epochs()["birch"]
    saved = story.lab.save_disk(home)
    time.sleep(1.5)
    story.lab.kill(home)
    story.lab.restore_disk(home, saved)
    story.lab.start_host(home)
    story.lab.serving("birch", epoch + 1)
    story.lab.joined(home)


def half_of_them_at_once(story: Story) -> None:
    before = story.epochs()
    homes = list(dict.fromkeys([story.home("acme"), story.home("cedar"), *HOSTS]))[:2]
    hit = [tenant for tenant in TENANTS if story.home(tenant) in homes]
    for home in homes:
        story.lab.freeze(home)
    for home in homes:
        story.lab.kill(home)
    for tenant in hit:
        story.lab.serving(tenant, before[tenant] + 1)
        assert story.home(tenant) not in homes
    for home in homes:
        story.lab.start_host(home)
    story.lab.joined(*homes)


FAULTS: list[Callable[[Story], None]] = [
    killed,
    frozen,
    cut_off_from_store_and_coordinator,
    cut_off_from_the_store,
    cut_off_from_the_coordinator,
    back_with_a_stale_disk,
    half_of_them_at_once,
]
ORDER = [fault for _ in range(ROUNDS) for fault in random.Random(SEED).sample(FAULTS, len(FAULTS))]


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "fault", FAULTS if ROUNDS == 1 else ORDER, ids=lambda fault: fault.__name__
)
def test_nothing_that_was_promised_is_lost(story: Story, fault: Callable[[Story], None]) -> None:
    assert SELF_FENCE_AFTER < WATCH
    story.begin()
    fault(story)
    story.all_right()
