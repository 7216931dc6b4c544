"""`litefleet exec …` against a running engine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from fleet.cli import main
from tests.acceptance.conftest import User, interrupt
from tests.acceptance.developing import Dev

APP = """
from datetime import timedelta

from node import Retention, RetryPolicy, activity, workflow

greetings = Retention(workflow="greet", keep=timedelta(days=1))
briefly = Retention(workflow="brief", keep=timedelta())
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

@activity(version=1)
def square(number: int) -> int:
    return number * number

@workflow
async def squares(numbers: list[int], power: int = 1) -> int:
    return sum([await square(number) for number in numbers]) ** power

@workflow
async def brief() -> None:
    pass
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


class Within(Cli):
    """The same in this process, where a command takes no second to begin."""

    def __init__(
        self, cli: Cli, patch: pytest.MonkeyPatch, said: pytest.CaptureFixture[str]
    ) -> None:
        super().__init__(cli.user, cli.url)
        self.patch = patch
        self.said = said

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        return self.any("exec", *arguments, "--url", self.url, code=code)

    def any(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        self.patch.setattr(sys, "argv", ["litefleet", *arguments])
        self.said.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = self.said.readouterr()
        assert int(ended.value.code or 0) == code, (arguments, out, err)
        return subprocess.CompletedProcess(arguments, code, out, err)


@pytest.fixture
def cli(user: User) -> Iterator[Cli]:
    (user.folder / "app.py").write_text(APP)
    dev = Dev(user, "app.py")
    yield Cli(user, dev.url)
    assert interrupt(dev.process) == 0


@pytest.fixture
def within(cli: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Within:
    return Within(cli, monkeypatch, capsys)


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


def test_what_is_kept_and_what_goes(cli: Cli) -> None:
    for id in ("a", "b"):
        cli.run("start", "greet", "name=Ada", "--id", id, "--wait", "20")
    cli.run("start", "count", "--id", "open")
    assert cli.json("delete", "open", code=1)["error"]["type"] == "execution_open"
    assert "held" in cli.run("hold", "a", "--reason", "mine").stderr
    assert cli.json("delete", "a", code=1)["error"]["type"] == "execution_held"
    assert cli.json("release", "a")["changed"] is True
    assert "nothing changed" in cli.run("release", "a").stderr
    assert "is removed, with" in cli.run("delete", "a").stderr
    assert cli.json("show", "a", code=1)["error"]["type"] == "unknown_execution"
    cli.run("start", "brief", "--id", "f")
    # The rule for it keeps nothing, and may have found it by now.
    plan = cli.json("prune", "--dry-run")
    assert plan["executions"] <= 1
    assert "would be removed" in cli.run("prune", "--dry-run").stdout
    pruned = cli.json("prune")
    assert (pruned["trouble"], pruned["left"]) == (None, {"executions": 0, "histories": 0})
    assert "removed" in cli.run("prune").stdout
    assert cli.json("show", "f", code=1)["error"]["type"] == "unknown_execution"
    assert cli.json("show", "b")["status"] == "completed"
    assert cli.json("retention")["executions"] == 2
    assert "greet" in cli.run("retention").stdout


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


def test_forks_and_imports(cli: Cli) -> None:
    cli.run("start", "squares", "numbers=[1,2,3]", "--id", "s", "--wait", "20")
    plan = cli.json("fork", "s", "numbers=[2,1,5]", "--dry-run")
    assert [one["action"] for one in plan["steps"]] == ["reused", "reused", "runs"]
    assert plan["steps"][2]["why"] == "its arguments changed"
    assert "its arguments changed" in cli.run("fork", "s", "numbers=[2,5]", "--dry-run").stdout
    refused = cli.json("fork", "s", code=1)["error"]
    assert refused["type"] == "fork_refused"
    assert "square#3" in refused["hint"]
    made = cli.run("fork", "s", "--at", "square#3", "--id", "t")
    assert made.stdout == "t\n"
    assert cli.run("result", "t", "--wait", "20").stdout == "14\n"
    assert "s, exact" in cli.run("show", "t").stdout
    made = cli.json("fork", "s", "power=2", "--paused", "--id", "u")
    assert (made["paused"], made["forked_from"]["mode"]) == (True, "reuse")
    cli.run("resume", "u")
    assert cli.run("result", "u", "--wait", "20").stdout == "196\n"
    kinds = [one["kind"] for one in cli.json("log", "u")["items"]]
    assert kinds.count("step_reused") == 3

    cli.run("start", "fix", "--id", "f", "--wait", "20", code=1)
    cli.run("fork", "f", "--id", "g")
    assert cli.run("result", "g", "--wait", "20").stdout == "mended\n"
    about = cli.json("export", "f", "--to", "f.json", "--with-children")
    assert about["children"] == 0
    record = cli.json("import", "f.json", "--id", "r")
    assert (record["status"], record["forked_from"]["id"]) == ("failed", "f")
    assert cli.json("import", "f.json", "--id", "r")["id"] == "r"
    plan = cli.json("import", "f.json", "--mode", "exact", "--dry-run")
    assert [one["action"] for one in plan["steps"]] == ["runs"]
    made = cli.json("import", "f.json", "--mode", "exact", "--no-paused")
    assert cli.run("result", made["id"], "--wait", "20").stdout == "mended\n"

    file = cli.user.folder / "f.json"
    text = file.read_text()
    for bad, words in (
        (text.replace("too bad", "too good"), "digest"),
        (text.replace('"version": 2', '"version": 9'), "newer"),
        ("{}", "no archive"),
        ("[]", "no archive"),
        ("{", "no JSON"),
    ):
        file.write_text(bad)
        error = cli.json("import", "f.json", code=1)["error"]
        assert words in error["message"]
        assert error["hint"]


def test_many_at_once(within: Within) -> None:
    """Labels, filters, counts, and one action for all that are found."""
    cli = within
    for n in range(2):
        cli.run("start", "count", "--id", f"c{n}", "--label", "customer=acme", "--label", f"n={n}")
    cli.run("start", "fix", "--id", "f", "--wait", "20", code=1)
    found = cli.json("list", "--label", "customer=acme", "--id-prefix", "c", "--newest")["items"]
    assert [one["id"] for one in found] == ["c1", "c0"]
    assert found[0]["labels"] == {"customer": "acme", "n": "1"}
    assert [one["id"] for one in cli.json("list", "--failures")["items"]] == ["f"]
    assert {"workflow": "count", "status": "running", "count": 2} in cli.json("count")["items"]
    cli.run("list", "--label", "customer", code=2)
    assert cli.json("list", "--started-after", "7", code=1)["error"]["type"] == "bad_moment"

    assert cli.json("bulk", "cancel", code=1)["error"]["type"] == "bad_value"
    acme = ("--label", "customer=acme", "--started-after", "1h-ago")
    dry = cli.json("bulk", "terminate", *acme, "--dry-run")["items"]
    assert [(one["id"], one["changed"]) for one in dry] == [("c0", False), ("c1", False)]
    assert "2 of 2" in cli.run("bulk", "signal", *acme, "--signal", "done").stderr
    assert cli.run("result", "c1", "--wait", "20").stdout == "0\n"
    partly = cli.json("bulk", "retry", "--all", code=1)["items"]
    assert {one["id"]: one.get("error", {}).get("type") for one in partly} == {
        "c0": "execution_conflict",
        "c1": "execution_conflict",
        "f": None,
    }


def test_questions_in_sql(within: Within) -> None:
    cli = within
    cli.run("start", "greet", "name=Ada", "--id", "ada", "--wait", "20")

    def sql(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        return cli.any("sql", *arguments, code=code)

    def refused(*arguments: str) -> str:
        return str(json.loads(sql(*arguments, "--json", code=1).stdout)["error"]["type"])

    log = next(cli.user.folder.rglob("*.db"))
    statement = "SELECT id, status FROM executions WHERE id = ?"
    # The engine has the file open.
    for target in (("--url", cli.url), ("--file", str(log))):
        ran = sql(*target, statement, "--parameter", '"ada"', "--json")
        found = json.loads(ran.stdout)
        assert (found["columns"], found["rows"]) == (["id", "status"], [["ada", "completed"]])
        assert refused(*target, "SELECT * FROM litefleet_meta") == "statement_refused"
    assert "ada" in sql("--url", cli.url, "SELECT id FROM executions").stdout
    endless = "WITH RECURSIVE c(n) AS (SELECT 1 UNION SELECT n + 1 FROM c) SELECT max(n) FROM c"
    assert refused("--url", cli.url, endless, "--timeout", "0.2") == "statement_too_slow"
    assert "waits_for" in sql("--file", str(log), "--schema").stdout
    assert refused("--file", "none.db", "SELECT 1") == "log_missing"
    assert refused("SELECT 1") == "no_target"
    sql("a", "b", "c", code=2)
