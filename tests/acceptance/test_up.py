"""`litefleet up` and the commands that speak to it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import stat
from collections.abc import Callable
from typing import Any

import httpx
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
    assert _json(user, "exec", "list", "--tenant", "first")["items"] == []
    unknown = _json(user, "exec", "show", "nobody", "--tenant", "first", code=1)
    assert unknown["error"]["type"] == "unknown_execution"
    assert _json(user, "exec", "waiting", "--tenant", "first")["items"] == []
    assert user.run("exec", "logs", "--tenant", "first").returncode == 0
    headers = {"authorization": f"Bearer {json.loads(record.read_text())['token']}"}
    scraped = [httpx.get(f"{one['address']}/metrics", headers=headers).text for one in hosts]
    assert sum('litefleet_node_answered{tenant="first"} 1' in text for text in scraped) == 1
    assert sum('litefleet_log_sequence{tenant="first"}' in text for text in scraped) == 1
    spec = ("digest", "document=a", "--cron", "@yearly", "--tenant", "first")
    assert _json(user, "schedule", "create", "yearly", *spec)["durable"] is True
    gone = _json(user, "schedule", "delete", "yearly", "--tenant", "first")
    assert (gone["deleted"], gone["durable"]) == (True, True)
    (lag,) = _json(user, "lag")["items"]
    assert lag["tenant"] == "first"
    _json(user, "resume")

    eventually(
        lambda: _json(user, "verify")["items"][0]["whole"],
        "a chain in the bucket that is whole",
        60,
    )
    plan = _json(user, "restore", "first", "--dry-run")
    assert (plan["tenant"], plan["epoch"], plan["missing"]) == ("first", 1, None)
    to = user.folder / "first.db"
    done = _json(user, "restore", "first", "--to", str(to))
    assert done["bookmark"].startswith("1:")
    assert to.read_bytes().startswith(b"SQLite format 3")
    assert [path.name for path in user.folder.glob(".first.db*")] == []
    for arguments, type in (
        (("restore", "first", "--to", str(to)), "exists"),
        (("restore", "first"), "no_file"),
        (("restore", "first", "--to", str(user.folder / "x"), "--at", "soon"), "bad_moment"),
        (("restore", "first", "--to", str(user.folder / "x"), "--at", "9d-ago"), "restore_failed"),
        (("restore", "nobody", "--to", str(user.folder / "x")), "restore_failed"),
        (("verify", "nobody"), "restore_failed"),
    ):
        refused = _json(user, *arguments, code=1)
        assert (refused["error"]["type"], bool(refused["error"]["hint"])) == (type, True)
    assert not (user.folder / "x").exists()

    (drill,) = _json(user, "drill", "first")["items"]
    assert (drill["ok"], drill["compared"], drill["finding"]) == (True, True, "")
    assert drill["bookmark"] == done["bookmark"]
    (record,) = _json(user, "drill", "--history")["items"]
    assert record["verified_at"] == drill["began_at"]
    assert _json(user, "drill", "nobody", code=1)["error"]["type"] == "not_found"

    (made,) = _json(user, "copy", "make")["items"]
    assert made["bookmark"] == done["bookmark"]
    assert _json(user, "copy", "list", "first")["items"] == [made]
    to = user.folder / "copy.db"
    assert _json(user, "copy", "fetch", "first", "--to", str(to))["items"] == [made]
    assert hashlib.sha256(to.read_bytes()).hexdigest() == made["sha256"]
    again = _json(user, "copy", "fetch", "first", "--to", str(to), code=1)
    assert again["error"]["type"] == "exists"
    none = ("copy", "fetch", "first", "--copy", "x", "--to", str(user.folder / "x"))
    assert _json(user, *none, code=1)["error"]["type"] == "no_copy"

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
