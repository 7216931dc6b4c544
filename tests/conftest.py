"""What tests of every kind share: one real object store for the whole run."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings

from backup.settings import StoreSettings
from fleet.seaweed import EmbeddedStore

# How long an example takes says something about the machine, and nothing about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

_fleets = itertools.count(1)


@pytest.fixture(scope="session")
def embedded_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    """A running SeaweedFS with an empty bucket; do not stop it."""
    with EmbeddedStore(tmp_path_factory.mktemp("store")) as store:
        yield store


@pytest.fixture
def store_settings(embedded_store: EmbeddedStore) -> StoreSettings:
    """The administrator's way to a prefix of the store that no other test uses."""
    return embedded_store.settings(f"fleet-{next(_fleets)}")


def eventually(condition: Callable[[], bool], what: str, timeout: float = 30.0) -> None:
    """Wait until a condition holds; fail with `what` when it does not within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"never happened: {what}")
        time.sleep(0.005)


@pytest.fixture(name="eventually")
def eventually_fixture() -> Callable[..., None]:
    """`eventually(condition, what, timeout=30)`: waits for a condition instead of sleeping."""
    return eventually
