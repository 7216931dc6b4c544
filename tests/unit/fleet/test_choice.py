"""Whom an agent runs its nodes as."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from backup.settings import Credentials, StoreSettings
from fleet.runtimes.choice import accounts_of
from fleet.settings import AccountSettings, AgentSettings, BadSettings

STORE = StoreSettings(
    endpoint="http://s",
    bucket="bucket",
    credentials=Credentials(access_key_id="i", secret_access_key=SecretStr("s")),
)


def test_a_folder_that_tenants_cannot_reach_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    # Below 70 bytes, for the sockets.
    monkeypatch.setattr("fleet.settings.short_enough", lambda value: value)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    settings = AgentSettings(
        store=STORE,
        token=SecretStr("t"),
        host="h",
        data=closed / "host",
        accounts=AccountSettings(users="own"),
    )
    with pytest.raises(BadSettings, match="cannot pass through"):
        accounts_of(settings)
