"""Which versions an upgrade keeps beside the new one."""

from __future__ import annotations

import pytest

from backup.ownership import TenantRecord
from fleet.coordinator.upgrades import kept_beside
from fleet.views import UpgradeWanted

RUNS = TenantRecord(tenant="t", app="v2:app", kept=("v1:app",))


@pytest.mark.parametrize(
    ("app", "asked", "kept"),
    [
        # Without a word, what is there stays.
        ("v3:app", {}, ("v1:app",)),
        # What is asked for is all there is; a folder alone has the same module.
        ("v3:app", {"keep": []}, ()),
        ("v3:app", {"keep": ["v2", "v0:old"]}, ("v2:app", "v0:old")),
        ("shop.app", {"keep": ["v2"]}, ("v2:shop.app",)),
        # To pin, what runs now is kept too.
        ("v3:app", {"stopped": "pin"}, ("v1:app", "v2:app")),
        ("v3:app", {"stopped": "pin", "keep": ["v2"]}, ("v2:app",)),
        ("v2:app", {"stopped": "pin"}, ("v1:app",)),
        # On the way back, what is current again is not beside itself.
        ("v1:app", {}, ()),
        ("v1:app", {"keep": ["v1", "v2"]}, ("v2:app",)),
    ],
)
def test_kept(app: str, asked: dict[str, object], kept: tuple[str, ...]) -> None:
    assert kept_beside(app, RUNS, UpgradeWanted.model_validate(asked)) == kept


def test_one_without_a_folder_of_its_own_cannot_be_kept_by_itself() -> None:
    runs = TenantRecord(tenant="t", app="app")
    assert kept_beside("v2:app", runs, UpgradeWanted(stopped="pin")) == ()
