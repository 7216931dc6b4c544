"""`litefleet exec …` against a running engine."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.conftest import User, interrupt
from tests.acceptance.developing import Dev

APP = """
from node import RetryPolicy, activity, workflow

broken = True

@activity(retry=RetryPolicy(max_attempts=1))
def mend() -> str:
    global broken
    if broken:
        broken = False
        raise ValueError("too bad")
    return "mended"

@workflow
async def greet(name: str, times: int = 1) -> str:
    return f"Hello, {name}! " * times

@workflow
async def count() -> int:
    total = 0

    @workflow.query
    def so_far() -> int:
        return total

    @workflow.update
    def add(number: int) -> int:
        nonlocal total
        total += number
        return total

    await workflow.receive("done")
    return total

@workflow
async def fix() -> str:
    return await mend()
"""


class Cli:
    """`litefleet exec` with the engine's address in the environment."""

    def __init__(self, user: User, url: str) -> None:
        self.user = user
        self.url = url

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        ran = self.user.run("exec", *arguments, env={"LITEFLEET_URL": self.url}, timeout=60)
        assert ran.returncode == code, (arguments, ran.stdout, ran.stderr)
        assert "Traceback" not in ran.stderr
        return ran

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", code=code).stdout)


@pytest.fixture
def cli(user: User) -> Iterator[Cli]:
    (user.folder / "app.py").write_text(APP)
    dev = Dev(user, "app.py")
    yield Cli(user, dev.url)
    assert interrupt(dev.process) == 0


def test_an_execution_from_start_to_export(cli: Cli, user: User) -> None:
    ran = cli.run("start", "greet", "name=Ada", "times=2", "--wait", "20")
    assert ran.stdout == "Hello, Ada! Hello, Ada! \n"
    assert "not proven durable" in ran.stderr
    started = cli.json("start", "greet", "--input", '{"name": "Bob"}', "--id", "bob")
    assert (started["id"], started["durable"]) == ("bob", False)
    assert cli.json("result", "bob", "--wait", "20")["result"] == "Hello, Bob! "
    assert cli.json("start", "greet", "name=Bob", "--id", "bob")["status"] == "completed"
    conflict = cli.json("start", "greet", "name=Cy", "--id", "bob", code=1)
    assert conflict["error"]["type"] == "execution_conflict"
    assert conflict["error"]["hint"]

    items = cli.json("list", "--workflow", "greet", "--status", "completed")["items"]
    assert len(items) == 2
    assert "bob" in cli.run("list").stdout
    assert len(cli.json("list", "--limit", "1")["items"]) == 1
    assert cli.json("show", "bob")["input"] == {"name": "Bob", "times": 1}
    assert "Hello, Bob!" in cli.run("show", "bob").stdout
    kinds = [one["kind"] for one in cli.json("log", "bob")["items"]]
    assert (kinds[0], kinds[-1]) == ("started", "completed")
    assert "completed" in cli.run("log", "bob").stdout

    cli.run("export", "bob", "--to", "bob.json")
    assert cli.json("export", "bob", "--to", "bob.json", code=1)["error"]["type"] == "exists"
    assert json.loads(cli.run("export", "bob").stdout)["execution"] == "bob"
    assert user.run("replay", "bob.json", "--app", "app.py").returncode == 0


def test_speaking_to_one_that_runs(cli: Cli) -> None:
    cli.run("start", "count", "--id", "c")
    assert cli.run("result", "c", code=3).stdout == ""
    (wait,) = cli.json("waiting", "c")["items"]
    assert (wait["kind"], wait["name"]) == ("signal", "done")
    assert "app.py:" in wait["where"]
    assert "waits for" in cli.run("show", "c").stdout
    shown = cli.run("waiting", "c").stdout
    assert "signal done" in shown
    assert "stands at" in shown
    (one,) = cli.json("waiting", "--workflow", "count", "--kind", "signal")["items"]
    assert (one["id"], one["waits"][0]["name"]) == ("c", "done")
    assert "signal done" in cli.run("waiting").stdout
    assert cli.json("waiting", "--longer-than", "2h")["items"] == []
    assert "no time" in cli.run("waiting", "--longer-than", "soon", code=2).stderr
    cli.run("waiting", "c", "--kind", "signal", code=2)
    assert cli.run("update", "c", "add", "number=3").stdout == "3\n"
    assert cli.json("update", "c", "add", "number=4", "--key", "k")["result"] == 7
    assert cli.json("update", "c", "add", "number=4", "--key", "k")["result"] == 7
    assert cli.run("query", "c", "so_far").stdout == "7\n"
    assert cli.json("update", "c", "add", "number=x", code=1)["error"]["type"] == "payload_error"
    assert cli.json("pause", "c", "--reason", "a holiday")["paused"] is True
    assert "a holiday" in cli.run("waiting", "c").stdout
    assert "paused" in cli.run("list").stdout
    assert cli.json("resume", "c")["paused"] is False
    assert "arrived" in cli.run("signal", "c", "done").stderr
    assert cli.run("result", "c", "--wait", "20").stdout == "7\n"


def test_one_that_fails_is_tried_again_and_others_are_stopped(cli: Cli) -> None:
    failed = cli.json("start", "fix", "--id", "f", "--wait", "20", code=1)
    assert failed["error"]["message"].endswith("too bad")
    assert "too bad" in cli.run("result", "f", code=1).stderr
    cli.run("retry", "f")
    assert cli.run("result", "f", "--wait", "20").stdout == "mended\n"
    for action, status in (("cancel", "cancelled"), ("terminate", "terminated")):
        cli.run("start", "count", "--id", action)
        cli.run(action, action, "--reason", "not needed")
        stopped = cli.json("result", action, "--wait", "20", code=1)
        assert (stopped["status"], stopped["error"]["message"]) == (status, "not needed")


def test_what_cannot_be_done_is_said_with_what_to_do(cli: Cli, user: User) -> None:
    unknown = cli.json("show", "nobody", code=1)
    assert unknown["error"]["type"] == "unknown_execution"
    assert cli.json("start", "nothing", code=1)["error"]["type"] == "unknown_workflow"
    refused = cli.json("start", "count", "--ack", "durable", code=1)
    assert refused["error"]["type"] == "durability_unavailable"
    cli.run("start", "greet", "Ada", code=2)
    cli.run("start", "greet", "--input", "{", code=2)
    ran = user.run("exec", "list", "--json")
    assert (ran.returncode, json.loads(ran.stdout)["error"]["type"]) == (1, "no_target")
    ran = user.run("exec", "list", "--url", "http://127.0.0.1:1", "--json")
    assert (ran.returncode, json.loads(ran.stdout)["error"]["type"]) == (1, "unreachable")
    ran = user.run("exec", "list", "--url", cli.url, "--tenant", "acme", "--json")
    assert json.loads(ran.stdout)["error"]["type"] == "two_targets"
