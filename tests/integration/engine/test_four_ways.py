"""Every scenario ends the same, whatever happens to its engine and its machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from backup.settings import StoreSettings
from tests.integration.engine import four_ways
from tests.integration.engine.four_ways import SCENARIOS

TWIN = "tests.integration.engine.forgetful_twin"
every = pytest.mark.parametrize("module", SCENARIOS, ids=lambda name: name.split(".")[-1])


@every
def test_cached(module: str) -> None:
    outcomes, commits = four_ways.uninterrupted(module)
    assert outcomes
    assert commits > 3


@every
def test_evicted_at_every_await(tmp_path: Path, module: str) -> None:
    four_ways.evicted(tmp_path, module)


@every
@pytest.mark.parametrize("mode", ["cached", "forced", "every_commit"])
def test_killed_at_every_commit(tmp_path: Path, module: str, mode: str) -> None:
    four_ways.killed(tmp_path, module, mode)


@every
@pytest.mark.timeout(600)
def test_restored_from_object_storage(
    tmp_path: Path, store_settings: StoreSettings, module: str
) -> None:
    assert four_ways.restored(tmp_path, module, store_settings) >= 2


def test_what_does_not_survive_is_noticed(tmp_path: Path) -> None:
    four_ways.evicted(tmp_path / "evicted", TWIN)
    with pytest.raises(AssertionError, match="it ended as"):
        four_ways.killed(tmp_path / "killed", TWIN, "cached")
