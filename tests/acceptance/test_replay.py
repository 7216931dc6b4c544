"""`litefleet replay`: recorded executions against code that changed."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from node.engine.application import load_app_file
from node.engine.config import EngineConfig
from node.engine.engine import Engine
from tests.acceptance.conftest import User

APP = """
from node import activity, workflow

@activity
def compose(name: str) -> str:
    return f"Hello, {name}!"

@activity
def other(name: str) -> str:
    return name

@workflow
async def greet(name: str) -> str:
    text = await compose(name)
    await workflow.sleep(0.001)
    return text

@workflow
async def wait() -> int:
    await compose("you")
    return await workflow.receive("go", int)

@workflow
async def approve() -> str:
    return await workflow.external("approval", str)
"""


async def record(folder: Path) -> None:
    """A log of three executions, and an archive of each."""
    application = load_app_file(folder / "recorded.py")
    config = EngineConfig(
        path=folder / "log.db", application=application, tenant="acme", lineage="line", create=True
    )
    async with Engine(config) as engine:
        for id, workflow, given in (
            ("ada", "greet", {"name": "Ada"}),
            ("bob", "wait", {}),
            ("cy", "approve", {}),
        ):
            await engine.start(workflow, given, id=id)
        await engine.result("ada", wait=10)
        while engine.waiting("bob")[0].kind != "signal":
            await asyncio.sleep(0.002)
        (folder / "archives").mkdir()
        for id in ("ada", "bob", "cy"):
            text = engine.export(id).model_dump_json()
            (folder / "archives" / f"{id}.json").write_text(text)


@pytest.fixture
def recorded(user: User, monkeypatch: pytest.MonkeyPatch) -> Path:
    (user.folder / "recorded.py").write_text(APP)
    monkeypatch.syspath_prepend(user.folder)
    monkeypatch.delitem(sys.modules, "recorded", raising=False)
    asyncio.run(record(user.folder))
    return user.folder


@pytest.mark.parametrize("source", ["log.db", "archives"])
def test_code_that_follows_passes_and_code_that_does_not_fails(
    user: User, recorded: Path, source: str
) -> None:
    ran = user.run("replay", source, "--app", "recorded.py", "--json")
    report = json.loads(ran.stdout)
    assert (ran.returncode, report["ok"], report["executions"]) == (0, True, 3), ran.stderr
    assert report["workflows"]["greet"] == {"followed": 1, "failed": 0}
    assert report["events"] > 8

    (user.folder / "changed.py").write_text(APP.replace('await compose("you")', "await other('x')"))
    ran = user.run("replay", source, "--app", "changed.py", "--json")
    report = json.loads(ran.stdout)
    assert (ran.returncode, report["ok"]) == (1, False)
    (failure,) = report["failures"]
    assert (failure["execution"], failure["workflow"], failure["type"]) == (
        "bob",
        "wait",
        "Divergence",
    )
    assert failure["logged"] == 'step compose #1 {"name":"you"}'
    assert failure["did"] == 'step other #1 {"name":"x"}'
    assert failure["sequence"] > 1
    shown = user.run("replay", source, "--app", "changed.py")
    assert shown.returncode == 1
    assert f"wait bob ({source}" in shown.stdout
    assert "the log holds  step compose #1" in shown.stdout
    assert "3 executions" in shown.stdout
    assert "1 diverge" in shown.stdout

    ran = user.run("replay", source, "--app", "changed.py", "--id", "ada", "--json")
    assert (ran.returncode, json.loads(ran.stdout)["executions"]) == (0, 1)


def test_an_ending_that_changed_a_missing_workflow_and_a_file_opened_are_noticed(
    user: User, recorded: Path
) -> None:
    changed = APP.replace("    return text\n", "    open('/dev/null')\n    return text\n")
    changed = changed.replace("async def wait", "async def wait_longer")
    (user.folder / "changed.py").write_text(changed)
    ran = user.run("replay", "archives", "--app", "changed.py", "--json")
    found = {one["execution"]: one["type"] for one in json.loads(ran.stdout)["failures"]}
    assert found == {"ada": "DeterminismError", "bob": "UnknownWorkflow"}

    (user.folder / "more.py").write_text(APP.replace("return text", "return text + '?'"))
    ran = user.run("replay", "archives/ada.json", "--app", "more.py", "--json")
    (failure,) = json.loads(ran.stdout)["failures"]
    assert failure["logged"].startswith("completed")


def test_what_cannot_be_replayed_is_said(user: User, recorded: Path) -> None:
    def failing(*arguments: str) -> str:
        ran = user.run("replay", *arguments)
        assert ran.returncode == 1
        assert "Traceback (most recent" not in ran.stderr
        return ran.stderr

    assert "no archive" in failing("recorded.py", "--app", "recorded.py")
    assert "no execution with the id dan" in failing(
        "log.db", "--id", "dan", "--app", "recorded.py"
    )
    assert "cannot be imported" in failing("log.db", "--app", "no.such")
    (user.folder / "broken.py").write_text("1 / 0\n")
    assert "ZeroDivisionError" in failing("log.db", "--app", "broken.py")
    assert user.run("replay", "missing.json", "--app", "recorded.py").returncode == 2
