"""`litefleet dev`: real processes, real files that change, real kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.acceptance.conftest import User, interrupt
from tests.acceptance.developing import Dev

APP = """
from node import RetryPolicy, activity, workflow

tries = 0

@activity(retry=RetryPolicy(initial=0.01))
def shaky(name: str) -> str:
    global tries
    tries += 1
    print("trying", name)
    if tries == 1:
        raise ValueError("not yet")
    return f"Hello, {name}!"

@workflow
async def greet(name: str) -> str:
    workflow.logger.info("greeting %s", name)
    text = await shaky(name)
    text += await workflow.receive("more", str)
    return text
"""


@pytest.fixture
def app(user: User) -> Path:
    path = user.folder / "greetings.py"
    path.write_text(APP)
    return path


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_code_is_loaded_again_and_the_log_goes_on(user: User, app: Path) -> None:
    dev = Dev(user, "greetings.py")
    assert dev.said("serving")["workflows"] == ["greet"]
    assert dev.start("ada").status_code == 201
    retry = dev.said("step_retry")
    assert (retry["step"], retry["attempt"], retry["error"]["message"]) == ("shaky", 1, "not yet")
    assert dev.said("step_completed")["attempt"] == 2
    logged = dev.said("log")
    assert (logged["message"], logged["execution"]) == ("greeting ada", "ada")
    (wait,) = dev.said("execution_waits")["for"]
    assert (wait["kind"], wait["name"]) == ("signal", "more")

    # Code that does not load: it is said why, and the engine before it still serves.
    before = len(dev.lines)
    app.write_text(APP + "\ndef (\n")
    refused = dev.said("refused", before)
    assert refused["serving"]
    assert "SyntaxError" in refused["trace"]
    assert httpx.get(f"{dev.url}/executions/ada").json()["status"] == "running"

    # Code that does not follow the log: which execution, where, and what both say.
    before = len(dev.lines)
    app.write_text(
        APP.replace("text = await shaky(name)", 'text = await workflow.receive("x", str)')
    )
    diverged = dev.said("execution_diverged", before)
    assert (diverged["execution"], diverged["workflow"]) == ("ada", "greet")
    assert "shaky" in diverged["logged"]
    assert diverged["sequence"] > 1
    dev.said("serving", before)
    assert httpx.get(f"{dev.url}/executions/ada").json()["status"] == "diverged"

    # Code that does, with another end.
    before = len(dev.lines)
    app.write_text(APP.replace("return text", "return text.upper()"))
    dev.said("serving", before)
    httpx.post(f"{dev.url}/executions/ada/signals/more", json={"value": " Bye.", "ack": "async"})
    closed = dev.said("execution_closed", before)
    assert (closed["status"], closed["result"]) == ("completed", "HELLO, ADA! BYE.")

    assert interrupt(dev.process) == 0
    assert "Traceback" not in user.errors
    # Three engines have replayed it since.
    assert [line["message"] for line in dev.lines if line["event"] == "log"].count(
        "greeting ada"
    ) == 1
    # What the code prints is for people, not among the lines.
    assert user.errors.count("trying ada") == 2
    assert (user.folder / ".litefleet" / "dev.db").exists()
    assert user.processes() == []


def test_nothing_outlives_a_killed_one_and_the_next_goes_on(
    user: User, app: Path, eventually: Callable[..., None]
) -> None:
    dev = Dev(user, "greetings")
    dev.start("ada")
    dev.said("step_completed")
    os.kill(dev.process.pid, signal.SIGKILL)
    eventually(lambda: user.processes() == [], "the engine ending by itself", 20)
    again = Dev(user, "greetings")
    assert again.said("serving")["executions"]["running"] == 1
    httpx.post(f"{again.url}/executions/ada/signals/more", json={"value": "!", "ack": "async"})
    assert again.said("execution_closed")["result"] == "Hello, ada!!"
    assert not [line for line in again.lines if line["event"].startswith("step")]
    assert interrupt(again.process, signal.SIGTERM) == 0


def test_what_no_bucket_could_hold_is_refused_unless_it_is_practice(user: User, app: Path) -> None:
    rewrite(app, "@workflow\n", '@workflow(durability="before_effects")\n')
    ran = user.run("dev", "greetings.py", "--port", "0", timeout=60)
    assert ran.returncode == 1
    assert "workflow greet asks for durability before_effects" in ran.stderr
    assert "--practice" in ran.stderr
    dev = Dev(user, "greetings.py", "--practice")
    assert dev.start("ada", ack="durable").json()["durable"] is True
    assert dev.said("serving")["practice"] is True
    assert interrupt(dev.process) == 0


def test_without_practice_a_durable_start_is_refused(user: User, app: Path) -> None:
    dev = Dev(user, "greetings.py")
    refused = dev.start("ada", ack="durable")
    assert refused.status_code == 422
    assert refused.json()["error"]["type"] == "durability_unavailable"
    # One file has one engine, and one port one listener.
    other = user.run("dev", "greetings.py", "--port", "0", timeout=60)
    assert other.returncode == 1
    assert "another engine has" in other.stderr
    assert "--db" in other.stderr
    port = dev.url.rpartition(":")[2]
    other = user.run("dev", "greetings.py", "--db", "other.db", "--port", port, timeout=60)
    assert other.returncode == 1
    assert "--port" in other.stderr
    assert interrupt(dev.process) == 0


def test_what_cannot_be_run_is_said_in_words(user: User) -> None:
    for name in ("missing.py", "missing.module"):
        ran = user.run("dev", name, timeout=60)
        assert ran.returncode == 1
        assert "missing" in ran.stderr
        assert "Traceback" not in ran.stderr


def test_people_see_what_happens(user: User, app: Path, eventually: Callable[..., None]) -> None:
    with (user.folder / "seen").open("w") as seen:
        process = subprocess.Popen(
            [sys.executable, "-m", "fleet", "dev", "greetings.py", "--port", "0"],
            env=user.environment(),
            cwd=user.folder,
            stdout=seen,
            stderr=subprocess.STDOUT,
            text=True,
        )
    user.running.append(process)

    def shown(words: str) -> Callable[[], bool]:
        return lambda: words in (user.folder / "seen").read_text()

    eventually(shown("Ctrl-C stops"), "serving", 30)
    url = (user.folder / "seen").read_text().partition(" at ")[2].split()[0]
    body = {"workflow": "greet", "id": "ada", "input": {"name": "Ada"}, "ack": "async"}
    httpx.post(f"{url}/executions", json=body)
    eventually(shown("waits for signal more"), "the wait", 30)
    httpx.post(f"{url}/executions/ada/signals/more", json={"value": "!", "ack": "async"})
    eventually(shown("Hello, Ada!!"), "the result", 30)
    assert interrupt(process) == 0
    text = (user.folder / "seen").read_text()
    assert "greet ada started" in text
    assert "shaky attempt 1 failed" in text
    assert "ValueError: not yet; again in" in text
    assert "Traceback" not in text
