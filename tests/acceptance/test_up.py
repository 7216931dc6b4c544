"""`litefleet up` and the commands that speak to it."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Callable
from typing import Any

import pytest

from tests.acceptance.conftest import User, interrupt


def _json(user: User, *arguments: str, code: int = 0) -> dict[str, Any]:
    ran = user.run(*arguments, "--json", timeout=60)
    assert ran.returncode == code, ran.stderr
    assert "Traceback" not in ran.stderr
    value: dict[str, Any] = json.loads(ran.stdout)
    return value


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_fleet_for_an_afternoon(
    user: User, saying: Callable[[str], None], eventually: Callable[..., None]
) -> None:
    process = user.start("up", "--hosts", "2")
    saying("the fleet is up")

    record = user.folder / "home" / "default.json"
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    assert json.loads(record.read_text())["pid"] == process.pid

    made = _json(user, "tenant", "create", "first", "--durability", "before_effects")
    assert made["name"] == "first"
    assert made["durability"] == "before_effects"
    again = _json(user, "tenant", "create", "first", code=1)
    assert again["error"]["type"] == "tenant_exists"
    assert again["error"]["hint"]
    for bad in ("Upper", "a/b", "x-", "api", "x" * 100):
        refused = _json(user, "tenant", "create", bad, code=1)
        assert refused["error"]["type"] == "bad_tenant_name", bad
    missing = _json(user, "tenant", "show", "second", code=1)
    assert missing["error"]["type"] == "not_found"

    eventually(
        lambda: _json(user, "tenant", "show", "first")["state"] == "active",
        "the tenant running",
        60,
    )
    assert [one["name"] for one in _json(user, "tenant", "list")["items"]] == ["first"]
    hosts = _json(user, "host", "list")["items"]
    assert {one["name"] for one in hosts} == {"host-1", "host-2"}
    assert sorted(name for one in hosts for name in one["tenants"]) == ["first"]
    (lag,) = _json(user, "lag")["items"]
    assert lag["tenant"] == "first"
    _json(user, "resume")

    second = user.run("up", timeout=60)
    assert second.returncode == 1
    assert "--name" in second.stderr

    assert interrupt(process) == 0
    assert "Traceback" not in user.errors
    user.assert_nothing_left()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_what_is_kept_in_a_folder_is_there_again(
    user: User, saying: Callable[[str], None], eventually: Callable[..., None]
) -> None:
    data = user.folder / "data"

    def state() -> str:
        return str(_json(user, "tenant", "show", "first", "--name", "kept")["state"])

    arguments = ("up", "--hosts", "1", "--data", str(data), "--name", "kept")
    process = user.start(*arguments)
    saying("the fleet is up")
    _json(user, "tenant", "create", "first", "--name", "kept")
    eventually(lambda: state() == "active", "the tenant running", 60)
    before = _json(user, "tenant", "show", "first", "--name", "kept")
    assert interrupt(process, signal.SIGTERM) == 0
    user.assert_nothing_left()

    (user.folder / "stderr").write_text("")
    process = user.start(*arguments)
    saying("the fleet is up")
    eventually(lambda: state() == "active", "the tenant running again", 60)
    after = _json(user, "tenant", "show", "first", "--name", "kept")
    assert after["lineage"] == before["lineage"]
    assert after["epoch"] > before["epoch"]
    assert interrupt(process) == 0
    user.assert_nothing_left()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_when_up_is_killed_its_fleet_dies_with_it(
    user: User, saying: Callable[[str], None], eventually: Callable[..., None]
) -> None:
    process = user.start("up", "--hosts", "2")
    saying("the fleet is up")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    eventually(lambda: user.processes() == [], "every process gone", 30)
    ran = user.run("tenant", "list", timeout=60)
    assert ran.returncode == 1
    assert "litefleet up" in ran.stderr
