"""A deleted tenant removed from a real object store, its remover killed at every request."""

from __future__ import annotations

from itertools import count

import pytest

from backup.settings import StoreSettings
from backup.store import S3Store
from restore import erase
from tests.erasing import NEIGHBOURS, bury, check_gone, contents, fill, remove
from tests.killed_store import Killed, KilledStore


def stored(settings: StoreSettings, name: str) -> S3Store:
    store = S3Store(settings.model_copy(update={"prefix": f"{settings.prefix}-{name}"}))
    for tenant in ("a", *NEIGHBOURS):
        fill(store, tenant)
    bury(store, "a")
    return store


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_request_it_goes_on_to_the_same_end(
    store_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    monkeypatch.setattr(erase, "BATCH", 7)
    whole = remove(stored(store_settings, "whole"))
    for at in count(1):
        store = stored(store_settings, str(at))
        before = {tenant: contents(store, tenant) for tenant in NEIGHBOURS}
        try:
            remove(KilledStore(store, at, after))
        except Killed:
            pass
        else:
            break
        receipt = remove(store)
        check_gone(store, receipt)
        assert receipt.removed == whole.removed, f"killed at request {at}"
        assert {tenant: contents(store, tenant) for tenant in NEIGHBOURS} == before
    assert at > 30, "there was nothing to be killed at"
