"""Users of the operating system, given out to tenants."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from backup.settings import Credentials, StoreSettings
from fleet.runtimes.accounts import Accounts, NoAccount
from fleet.runtimes.choice import accounts_of, runtime_of, store_of_nodes
from fleet.settings import AccountSettings, AgentSettings, BadSettings, DockerSettings
from node.users import Users


def test_each_tenant_has_numbers_of_its_own_and_keeps_them(tmp_path: Path) -> None:
    path = tmp_path / "accounts.json"
    first = Accounts(path, 5000, 100)
    acme, birch = first.of("acme"), first.of("birch")
    assert acme == Users(engine=5000, sidecar=5001, group=5000)
    assert birch == Users(engine=5002, sidecar=5003, group=5002)
    again = Accounts(path, 5000, 100)
    assert again.of("birch") == birch
    assert again.of("cedar").engine == 5004
    assert again.of("acme") == acme
    assert path.stat().st_mode & 0o777 == 0o600


def test_when_all_are_given_out_it_says_so_and_old_ones_stay(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path / "accounts.json", 5000, 4)
    known = [accounts.of("acme"), accounts.of("birch")]
    with pytest.raises(NoAccount, match="raise `count`"):
        accounts.of("cedar")
    assert [accounts.of("acme"), accounts.of("birch")] == known


def test_a_file_that_cannot_be_read_gives_nobody_anothers_numbers(tmp_path: Path) -> None:
    path = tmp_path / "accounts.json"
    path.write_text("{")
    with pytest.raises(ValueError, match="Expecting"):
        Accounts(path, 5000, 100)


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path is short enough for a host's."""
    with tempfile.TemporaryDirectory(prefix="lf-", dir="/tmp") as folder:
        yield Path(folder)


def settings(folder: Path, **more: object) -> AgentSettings:
    store = StoreSettings(
        endpoint="http://here:1",
        bucket="bucket",
        credentials=Credentials(access_key_id="a", secret_access_key=SecretStr("b")),
    )
    given = {"store": store, "token": SecretStr("t"), "host": "h", "data": folder, **more}
    return AgentSettings.model_validate(given)


@pytest.mark.parametrize(
    ("root", "runtime", "users", "own"),
    [
        (True, "process", "auto", True),
        (False, "process", "auto", False),
        (True, "process", "shared", False),
        (False, "process", "own", True),
        (False, "docker", "auto", True),
    ],
)
def test_tenants_have_users_of_their_own_where_that_can_be(
    root: bool, runtime: str, users: str, own: bool, monkeypatch: pytest.MonkeyPatch, short: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0 if root else 1000)
    given = settings(short, runtime=runtime, accounts={"users": users})
    assert given.own_users is own
    if own and not root:
        with pytest.raises(BadSettings, match="start it as root"):
            accounts_of(given)
    else:
        assert (accounts_of(given) is not None) is own


def test_containers_with_a_shared_user_are_refused(short: Path) -> None:
    given = settings(short, runtime="docker", accounts=AccountSettings(users="shared"))
    with pytest.raises(BadSettings, match="users of their own"):
        runtime_of(given)


def test_nodes_may_reach_the_store_elsewhere_than_their_agent(short: Path) -> None:
    docker = DockerSettings(endpoint="http://there:2")
    assert store_of_nodes(settings(short)).endpoint == "http://here:1"
    there = settings(short, runtime="docker", docker=docker)
    assert store_of_nodes(there).endpoint == "http://there:2"
