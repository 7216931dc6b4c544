"""`litefleet upgrade --check` on files, and `litefleet tenant upgrade` on a fleet."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from fleet.client import AsyncClient, FleetConflict, FleetError
from fleet.local import LocalFleet, LocalSettings, until
from fleet.views import UpgradeView, UpgradeWanted
from tests.acceptance.conftest import User, interrupt
from tests.acceptance.developing import Dev
from tests.acceptance.test_fleet import Observed

APP = """
from node import activity, workflow
from texts import FIRST, APPLICATION_VERSION

@activity
async def say(text: str) -> str:
    return text

@workflow
async def order() -> str:
    await say(FIRST)
    if workflow.patched("twice"):
        await say("again")
    await workflow.receive("go")
    return await say(APPLICATION_VERSION)
"""


def release(folder: Path, version: str, first: str = "one", app: str = APP) -> str:
    folder.mkdir(parents=True)
    (folder / "shop.py").write_text(app)
    (folder / "texts.py").write_text(f"FIRST, APPLICATION_VERSION = {first!r}, {version!r}\n")
    return f"{folder.name}:shop"


def run(user: User, *arguments: str, code: int = 0) -> dict[str, Any]:
    ran = user.run(*arguments, "--json", timeout=90)
    assert ran.returncode == code, ran.stderr + ran.stdout
    assert "Traceback" not in ran.stderr
    value: dict[str, Any] = json.loads(ran.stdout)
    return value


def test_a_check_of_files_is_for_ci(user: User) -> None:
    releases = {
        name: release(user.folder / name, version, first)
        for name, version, first in (("v1", "1", "one"), ("v2", "2", "one"), ("v3", "3", "three"))
    }
    dev = Dev(user, releases["v1"])
    log = str(user.folder / ".litefleet" / "dev.db")
    for id, pinned in (("a", False), ("b", True)):
        body = {"workflow": "order", "input": {}, "pinned": pinned}
        assert dev.start(id, **body).status_code == 201
        dev.said("execution_waits")
    ran = user.run("exec", "list", "--url", dev.url)
    assert "1, pinned" in ran.stdout

    # While it runs, and afterwards.
    good = run(user, "upgrade", log, "--check", "--app", releases["v2"], "--keep", "v1")
    assert (good["ok"], good["executions"], good["kept"]) == (True, 2, ["1"])
    assert good["workflows"]["order"]["pinned"] == 1
    assert good["patches"]["twice"] == {"old": 0, "new": 1}
    assert interrupt(dev.process) == 0
    bad = run(user, "upgrade", log, "--check", "--app", releases["v3"], code=1)
    assert {f["execution"]: f["verdict"] for f in bad["findings"]} == {
        "a": "diverges",
        "b": "parked",
    }
    words = user.run("upgrade", log, "--check", "--app", releases["v3"])
    assert words.returncode == 1
    assert 'the log holds  step say #1 {"text":"one"}' in words.stdout
    assert 'the code did   step say #1 {"text":"three"}' in words.stdout
    assert "waits for version 1 of the application" in words.stdout
    assert "the old path; it may be removed" in words.stdout
    assert "2 would not go on" in words.stdout

    (user.folder / "v3" / "texts.py").write_text("1 / 0")
    broken = run(user, "upgrade", log, "--check", "--app", releases["v3"], code=1)
    assert "ZeroDivisionError" in broken["error"]["message"]
    unchecked = run(user, "upgrade", log, "--app", releases["v2"], code=1)
    assert unchecked["error"]["type"] == "only_a_check"

    # The newer version with the older beside it, on the same log.
    dev = Dev(user, releases["v2"], "--keep", "v1")
    items = run(user, "exec", "versions", "--url", dev.url)["items"]
    assert [(one["version"], one["open"], one["pinned"]) for one in items] == [
        ("2", 1, 0),
        ("1", 1, 1),
    ]
    user.run("exec", "export", "b", "--to", "b.json", "--url", dev.url)
    for id, version in (("a", "2"), ("b", "1")):
        run(user, "exec", "signal", id, "go", "--url", dev.url)
        result = run(user, "exec", "result", id, "--wait", "10", "--url", dev.url)
        assert result["result"] == version
    assert interrupt(dev.process) == 0
    archived = run(user, "upgrade", "b.json", "--check", "--app", releases["v2"], "--keep", "v1")
    assert archived["workflows"]["order"]["pinned"] == 1
    assert run(user, "upgrade", log, "--check", "--app", releases["v2"])["executions"] == 0


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_tenant_is_upgraded_and_comes_back(
    user: User, saying: Callable[[str], None], eventually: Callable[..., None]
) -> None:
    for name, version, first in (("v1", "1", "one"), ("v2", "2", "one"), ("v3", "3", "three")):
        release(user.folder / name, version, first)
    release(user.folder / "broken", "4", app="import nothing_like_this\n")
    process = user.start("up", "--hosts", "1")
    saying("the fleet is up")
    to = ("--tenant", "acme")

    def upgrade(*arguments: str, code: int = 0) -> dict[str, Any]:
        return run(user, "tenant", "upgrade", "acme", *arguments, code=code)

    def start(id: str, *arguments: str) -> None:
        run(user, "exec", "start", "order", "--id", id, *arguments, *to)
        eventually(
            lambda: run(user, "exec", "waiting", id, *to)["items"][0]["kind"] == "signal",
            "it waiting for a signal",
        )

    run(user, "tenant", "create", "acme", "--app", "v1:shop")
    start("a")
    start("b", "--pinned")
    before = run(user, "tenant", "show", "acme")

    # Refused, and nothing is changed: what cannot be imported, and what would diverge.
    broken = upgrade("--app", "broken:shop", code=1)
    assert (broken["state"], broken["problem"]["type"]) == ("refused", "DefinitionError")
    assert "nothing_like_this" in broken["problem"]["message"]
    refused = upgrade("--app", "v3:shop", code=1)
    assert (refused["state"], refused["would_stop"]) == ("refused", 2)
    only = upgrade("--app", "v3:shop", "--check", code=1)
    assert {f["execution"]: f["verdict"] for f in only["report"]["findings"]} == {
        "a": "diverges",
        "b": "parked",
    }
    same = run(user, "tenant", "show", "acme")
    assert (same["app"], same["release"]) == ("v1:shop", 0)

    # What follows moves, what is pinned stays; same epoch, same host.
    done = upgrade("--app", "v2:shop", "--keep", "v1")
    assert (done["state"], done["release"], done["kept"]) == ("done", 1, ["v1:shop"])
    assert [(one["version"], one["open"]) for one in done["versions"]] == [("2", 1), ("1", 1)]
    after = run(user, "tenant", "show", "acme")
    assert (after["epoch"], after["host"]) == (before["epoch"], before["host"])
    assert (after["app"], after["kept"], after["release"]) == ("v2:shop", ["v1:shop"], 1)
    shown = run(user, "exec", "show", "a", *to)
    assert (shown["version"], shown["runs_on"]) == ("1", "2")

    # What would diverge is pinned, and what runs it now is kept.
    pinned = upgrade("--app", "v3:shop", "--pin-diverging")
    assert (pinned["state"], pinned["pinned"], pinned["stopped"]) == ("done", 1, 0)
    assert pinned["kept"] == ["v1:shop", "v2:shop"]
    words = user.run("exec", "versions", *to)
    assert "kept" in words.stdout
    for id, version in (("a", "2"), ("b", "1")):
        run(user, "exec", "signal", id, "go", *to)
        assert run(user, "exec", "result", id, "--wait", "20", *to)["result"] == version

    # Back is the same command; to keep nothing is safe now.
    back = user.run("tenant", "upgrade", "acme", "--app", "v1:shop", "--keep-none")
    assert back.returncode == 0, back.stderr
    assert "acme runs v1:shop, release 3" in back.stderr
    start("c")
    forced = upgrade("--app", "v3:shop", "--force")
    assert (forced["state"], forced["stopped"]) == ("done", 1)
    # What stands still already stops no upgrade.
    again = upgrade("--app", "v3:shop")
    assert (again["state"], again["stopped_before"], again["would_stop"]) == ("done", 1, 0)
    assert upgrade("--app", "v1:shop")["stopped"] == 0
    assert run(user, "exec", "show", "c", *to)["status"] == "running"
    missing = run(user, "tenant", "upgrade", "nobody", "--app", "v1:shop", code=1)
    assert missing["error"]["type"] == "not_found"
    assert interrupt(process) == 0
    user.assert_nothing_left()


async def settled(client: AsyncClient) -> UpgradeView:
    view = await client.upgrade("acme")
    while not view.over:
        await asyncio.sleep(0.02)
        view = await client.upgrade("acme")
    return view


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("when", ["checking", "restarting"])
def test_a_supervisor_that_dies_in_the_middle_leaves_one_of_the_two_versions(
    monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="litefleet-test-"))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    release(folder / "v1", "1")
    release(folder / "v2", "2")
    gate = folder / "go"
    slow = (
        f"import pathlib, time\nwhile not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.01)\n"
    )
    if when == "checking":
        texts = folder / "v2" / "texts.py"
        texts.write_text(slow + texts.read_text())

    async def whole() -> None:
        settings = LocalSettings(name="test", folder=folder / "fleet", hosts=1)
        async with LocalFleet(settings) as fleet, fleet.client() as client:
            await client.create_tenant("acme", "v1:shop")
            seen = Observed(fleet, client, folder / "marks")
            await seen.serving()
            await client.start("acme", "order", "a", {})
            node = await seen.node()
            await client.upgrade_tenant("acme", UpgradeWanted(app="v2:shop"))
            if when == "checking":
                with pytest.raises(FleetConflict, match="already"):
                    await client.upgrade_tenant("acme", UpgradeWanted(app="v2:shop"))
            while (await client.upgrade("acme")).state != when:
                await asyncio.sleep(0.005)
            os.kill(node.pids["supervisor"], signal.SIGKILL)
            gate.touch()
            view = await settled(client)
            after = await seen.serving(epoch=2)
            if when == "checking":
                assert (view.state, after.app, after.release) == ("refused", "v1:shop", 0)
            else:
                assert (after.app, after.release) == ("v2:shop", 1)
            result = await finished(client)
            assert result == ("1" if when == "checking" else "2")
            # And it can be given again.
            await client.upgrade_tenant("acme", UpgradeWanted(app="v2:shop"))
            assert (await settled(client)).state == "done"

    try:
        asyncio.run(whole())
        assert not [
            process.info["cmdline"]
            for process in psutil.process_iter(["cmdline"])
            if str(folder) in " ".join(process.info["cmdline"] or [])
        ]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def finished(client: AsyncClient) -> object:
    """The result of execution `a`, whose signal may be answered by nobody for a moment."""
    import httpx

    found: object = None

    async def done() -> bool:
        nonlocal found
        try:
            await client._http.post("/acme/executions/a/signals/go", json={"key": "go"})
            outcome = await client.result("acme", "a", wait=5.0)
        except (FleetError, httpx.HTTPError):
            return False
        found = outcome.result
        return outcome.status == "completed"

    assert await until(done, 60.0)
    return found
