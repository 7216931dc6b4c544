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

import httpx
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
    words = user.run("upgrade", log, "--check", "--app", releases["v3"])
    assert words.returncode == 1
    assert 'the log holds  step say #1 {"text":"one"}' in words.stdout
    assert 'the code did   step say #1 {"text":"three"}' in words.stdout
    assert "waits for version 1 of the application" in words.stdout
    assert "its old path, which may be removed" in words.stdout
    assert "2 would not go on" in words.stdout

    # The newer version with the older beside it, on the same log.
    dev = Dev(user, releases["v2"], "--keep", "v1")
    items = run(user, "exec", "versions", "--url", dev.url)["items"]
    assert [(one["version"], one["open"], one["pinned"]) for one in items] == [
        ("2", 1, 0),
        ("1", 1, 1),
    ]
    for id, version in (("a", "2"), ("b", "1")):
        httpx.post(f"{dev.url}/executions/{id}/signals/go", json={"ack": "async"})
        answer = httpx.get(f"{dev.url}/executions/{id}/result?wait=10", timeout=20)
        assert answer.json()["result"] == version
    assert interrupt(dev.process) == 0


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_tenant_is_upgraded_by_command(
    user: User, saying: Callable[[str], None], eventually: Callable[..., None]
) -> None:
    for name, version, first in (("v1", "1", "one"), ("v2", "2", "one"), ("v3", "3", "three")):
        release(user.folder / name, version, first)
    release(user.folder / "broken", "4", app="import nothing_like_this\n")
    process = user.start("up", "--hosts", "1")
    saying("the fleet is up")
    run(user, "tenant", "create", "acme", "--app", "v1:shop")
    for id, pinned in (("a", "--not-pinned"), ("b", "--pinned")):
        run(user, "exec", "start", "order", "--id", id, pinned, "--tenant", "acme")
    before = run(user, "tenant", "show", "acme")

    # Refused, and nothing is changed: what cannot be imported, and what would diverge.
    broken = run(user, "tenant", "upgrade", "acme", "--app", "broken:shop", code=1)
    assert (broken["state"], broken["problem"]["type"]) == ("refused", "DefinitionError")
    assert "nothing_like_this" in broken["problem"]["message"]
    refused = user.run("tenant", "upgrade", "acme", "--app", "v3:shop")
    assert refused.returncode == 1
    assert 'the code did   step say #1 {"text":"three"}' in refused.stdout
    assert "2 open executions of acme would not go on; nothing was changed" in refused.stderr
    assert "--pin-diverging" in refused.stderr
    only = run(user, "tenant", "upgrade", "acme", "--app", "v3:shop", "--check", code=1)
    assert [f["verdict"] for f in only["report"]["findings"]] == ["diverges", "parked"]

    # What follows moves, what is pinned stays; same epoch, same host.
    done = user.run("tenant", "upgrade", "acme", "--app", "v2:shop", "--keep", "v1")
    assert done.returncode == 0, done.stderr
    assert "acme runs v2:shop, release 1" in done.stderr
    after = run(user, "tenant", "show", "acme")
    assert (after["epoch"], after["host"]) == (before["epoch"], before["host"])
    assert (after["app"], after["kept"], after["release"]) == ("v2:shop", ["v1:shop"], 1)
    shown = run(user, "exec", "show", "a", "--tenant", "acme")
    assert (shown["version"], shown["runs_on"]) == ("1", "2")
    assert interrupt(process) == 0
    user.assert_nothing_left()


class Acme:
    """A tenant of a fleet of one host, with three versions of its application beside each other."""

    def __init__(self, fleet: LocalFleet, client: AsyncClient, folder: Path) -> None:
        self.client = client
        self.gate = folder / "go"
        self.seen = Observed(fleet, client, folder / "marks")
        self._http = httpx.AsyncClient(
            base_url=f"{fleet.address}/acme", headers={"authorization": f"Bearer {fleet.token}"}
        )

    async def upgrade(self, app: str, **more: Any) -> UpgradeView:
        await self.client.upgrade_tenant("acme", UpgradeWanted(app=app, **more))
        return await self.upgraded()

    async def upgraded(self) -> UpgradeView:
        view = await self.client.upgrade("acme")
        while not view.over:
            await asyncio.sleep(0.02)
            view = await self.client.upgrade("acme")
        return view

    async def status(self, id: str) -> str:
        return str((await self._http.get(f"/executions/{id}")).json()["status"])

    async def finish(self, id: str) -> object:
        """Its result after its signal, which may be answered by nobody for a moment."""
        found: object = None

        async def done() -> bool:
            nonlocal found
            try:
                await self._http.post(f"/executions/{id}/signals/go", json={"key": "go"})
                outcome = await self.client.result("acme", id, wait=5.0)
            except (FleetError, httpx.HTTPError):
                return False
            found = outcome.result
            return outcome.status == "completed"

        assert await until(done, 60.0)
        return found


async def choices(acme: Acme) -> None:
    """What becomes of executions that would diverge is the operator's choice."""
    await acme.client.start("acme", "order", "a", {})
    pinned = await acme.upgrade("v3:shop", stopped="pin")
    assert (pinned.state, pinned.pinned, pinned.stopped) == ("done", 1, 0)
    assert pinned.kept == ["v1:shop"]
    refused = await acme.upgrade("v2:shop", keep=[])
    assert (refused.state, refused.would_stop) == ("refused", 1)
    refused = await acme.upgrade("v2:shop", keep=[], stopped="pin")
    assert refused.state == "refused"
    assert refused.problem is not None
    assert "not kept" in refused.problem.message
    assert await acme.finish("a") == "1"
    # Back is the same; nobody needs anything else any more.
    back = await acme.upgrade("v1:shop", keep=[])
    assert (back.state, back.kept) == ("done", [])
    await acme.client.start("acme", "order", "c", {})
    forced = await acme.upgrade("v3:shop", stopped="force")
    assert (forced.state, forced.stopped, await acme.status("c")) == ("done", 1, "diverged")
    # What stands still already stops no upgrade, and goes on when its code is back.
    again = await acme.upgrade("v3:shop")
    assert (again.state, again.stopped_before, again.would_stop) == ("done", 1, 0)
    assert (await acme.upgrade("v1:shop")).stopped == 0
    assert await acme.status("c") == "running"


async def dies_while(acme: Acme, state: str) -> None:
    """The supervisor is killed in the middle: the tenant serves with one of the two versions."""
    await acme.client.start("acme", "order", state, {})
    before, node = await acme.client.tenant("acme"), await acme.seen.node()
    wanted = UpgradeWanted(app="slow:shop")
    acme.gate.unlink(missing_ok=True)
    await acme.client.upgrade_tenant("acme", wanted)
    if state == "checking":
        with pytest.raises(FleetConflict, match="already"):
            await acme.client.upgrade_tenant("acme", wanted)
    else:
        acme.gate.touch()
    while (await acme.client.upgrade("acme")).state != state:
        await asyncio.sleep(0.005)
    os.kill(node.pids["supervisor"], signal.SIGKILL)
    acme.gate.touch()
    view = await acme.upgraded()
    after = await acme.seen.serving(epoch=before.epoch + 1)
    if state == "checking":
        assert (view.state, after.app, after.release) == ("refused", "v1:shop", before.release)
    else:
        assert view.state == "done"
        assert (after.app, after.release) == ("slow:shop", before.release + 1)
    assert await acme.finish(state) == ("1" if state == "checking" else "5")


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_upgrades_of_a_fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(tempfile.mkdtemp(prefix="litefleet-test-"))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    for name, version, first in (("v1", "1", "one"), ("v2", "2", "one"), ("v3", "3", "three")):
        release(folder / name, version, first)
    release(folder / "slow", "5")
    with (folder / "slow" / "texts.py").open("a") as texts:
        texts.write("import pathlib, time\n")
        texts.write(f"while not pathlib.Path({str(folder / 'go')!r}).exists(): time.sleep(0.01)\n")

    async def whole() -> None:
        settings = LocalSettings(name="test", folder=folder / "fleet", hosts=1)
        async with LocalFleet(settings) as fleet, fleet.client() as client:
            await client.create_tenant("acme", "v1:shop")
            acme = Acme(fleet, client, folder)
            await acme.seen.serving()
            await choices(acme)
            await dies_while(acme, "checking")
            await dies_while(acme, "restarting")

    try:
        asyncio.run(whole())
        assert not [
            process.info["cmdline"]
            for process in psutil.process_iter(["cmdline"])
            if str(folder) in " ".join(process.info["cmdline"] or [])
        ]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
