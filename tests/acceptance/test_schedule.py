"""`litefleet schedule …` against a running engine."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.acceptance.conftest import User, interrupt
from tests.acceptance.developing import Dev

APP = """
from node import Schedule, workflow

@workflow
async def report(name: str = "all") -> str:
    return f"{name} {workflow.info().scheduled_at:%Y-%m-%d %H:%M}"

nightly = Schedule("nightly", report, cron="0 3 * * *", time_zone="Europe/Paris")
"""


class Cli:
    """`litefleet` with the engine's address in the environment."""

    def __init__(self, user: User, url: str) -> None:
        self.user = user
        self.url = url

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        ran = self.user.run(*arguments, env={"LITEFLEET_URL": self.url}, timeout=60)
        assert ran.returncode == code, (arguments, ran.stdout, ran.stderr)
        assert "Traceback" not in ran.stderr
        return ran

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run("schedule", *arguments, "--json", code=code).stdout)


@pytest.fixture
def dev(user: User) -> Iterator[Dev]:
    (user.folder / "app.py").write_text(APP)
    dev = Dev(user, "app.py")
    yield dev
    assert interrupt(dev.process) == 0


@pytest.fixture
def cli(user: User, dev: Dev) -> Cli:
    return Cli(user, dev.url)


def test_a_schedule_from_its_making_to_its_end(cli: Cli, eventually: Callable[..., None]) -> None:
    def seen(path: str) -> Any:
        return httpx.get(cli.url + path).json()

    made = cli.run("schedule", "create", "often", "report", "name=Ada", "--every", "1s")
    assert "often is active: every 1s, next" in made.stderr
    eventually(lambda: seen("/schedules/often")["runs"] >= 2, "two ticks", 30)
    paused = cli.run("schedule", "pause", "often", "--note", "enough")
    assert "often is paused: enough" in paused.stderr
    text = cli.run("schedule", "show", "often").stdout
    assert "paused: enough" in text
    assert "often:20" in text

    id = cli.run("schedule", "trigger", "often", "--key", "k").stdout.strip()
    assert id == "often:trigger:k"
    filled = cli.json(
        "backfill", "often", "--from", "2026-01-01T00:00Z", "--to", "2026-01-01T00:00:01Z"
    )
    assert filled["ticks"] == 2
    first = "/executions/often:2026-01-01T00:00:00Z/result"
    eventually(lambda: seen(first).get("result") == "Ada 2026-01-01 00:00", "its result", 30)

    changed = cli.json(
        "create",
        "often",
        "report",
        "--cron",
        "@hourly",
        "--cron",
        "30 9 * * mon",
        "--replace",
        "--catch-up-window",
        "0",
    )
    assert (changed["status"], changed["spec"]["catch_up_window"]) == ("paused", 0)
    assert "often is active" in cli.run("schedule", "resume", "often").stderr
    listed = cli.run("schedule", "list").stdout
    assert "0 3 * * * Europe/Paris" in listed
    assert "@hourly; 30 9 * * mon" in listed
    assert cli.json("delete", "often")["deleted"] is True
    assert [one["id"] for one in seen("/schedules")["items"]] == ["nightly"]


def test_what_cannot_be_is_refused_and_a_change_of_the_code_is_taken_over(
    cli: Cli, user: User, dev: Dev
) -> None:
    bad = cli.json("create", "s", "report", "--cron", "61 * * * *", code=1)["error"]
    assert bad["message"] == "'61 * * * *' is no cron expression: bad minute"
    assert "five fields" in bad["hint"]
    declared = cli.json("delete", "nightly", code=1)["error"]
    assert "the application declares" in declared["message"]
    refused = cli.json("backfill", "nightly", "--from", "tomorrow", code=1)["error"]
    assert refused["type"] == "bad_moment"
    wrong = cli.run("schedule", "create", "s", "report", "--every", "soon", code=2)
    assert "no duration" in wrong.stderr

    cli.run("schedule", "pause", "nightly", "--note", "audit")
    lines = len(dev.lines)
    (user.folder / "app.py").write_text(APP.replace("0 3 * * *", "15 4 * * *"))
    dev.said("serving", after=lines)
    shown = cli.json("show", "nightly")
    assert (shown["spec"]["cron"], shown["note"]) == (["15 4 * * *"], "audit")
