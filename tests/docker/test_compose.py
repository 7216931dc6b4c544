"""deploy/compose: a fleet of three hosts in one command, for real; one of them is lost."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "deploy" / "compose"


class Stack:
    """The compose file, under a project's name of its own."""

    def __init__(self, image: str) -> None:
        self.project = f"lf{secrets.token_hex(3)}"
        self._program = ["docker-compose"]
        if not shutil.which("docker-compose"):
            self._program = ["docker", "compose"]
        with socket.create_server(("127.0.0.1", 0)) as server:
            listen = f"127.0.0.1:{server.getsockname()[1]}"
        self._environment = os.environ | {"LITEFLEET_IMAGE": image, "LITEFLEET_LISTEN": listen}

    def __call__(self, *words: str, check: bool = True, more: dict[str, str] | None = None) -> str:
        done = subprocess.run(
            [*self._program, "-f", "compose.yaml", "-p", self.project, *words],
            cwd=FOLDER,
            env=self._environment | (more or {}),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert not check or done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def litefleet(self, *words: str) -> str:
        return self("exec", "-T", "coordinator", "litefleet", *words)

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        ends = time.monotonic() + 120
        while True:
            try:
                found = condition()
            except AssertionError:
                found = None  # the coordinator does not answer just now
            if found:
                return found
            if time.monotonic() > ends:
                raise TimeoutError(f"never happened: {what}\n{self('logs', '--tail', '20')}")
            time.sleep(0.5)


@pytest.fixture
def stack(engine: Any, image: str) -> Iterator[Stack]:
    one = Stack(image)
    label = {"label": f"com.docker.compose.project={one.project}"}
    try:
        yield one
        one("down", "-v", "-t", "60")
        assert engine.containers.list(all=True, filters=label) == []
        assert engine.volumes.list(filters=label) == []
    finally:
        one("down", "-v", "-t", "1", check=False)


@pytest.mark.timeout(480)
def test_one_command_brings_up_three_hosts_and_one_may_be_lost(stack: Stack) -> None:
    stack("up", "-d")

    def live() -> bool:
        listed = json.loads(stack.litefleet("host", "list", "--json"))
        hosts = listed["items"] if isinstance(listed, dict) else listed
        return {host["name"] for host in hosts if host["state"] == "live"} == {
            f"host-{number}" for number in (1, 2, 3)
        }

    stack.until(live, "three hosts are live")
    words = "tenant create first --app greetings --durability before_effects"
    stack.litefleet(*words.split())
    start = ["exec", "start", "greet", "--tenant", "first", "--id", "grace"]
    stack.litefleet(*start, "name=Grace", "wait=5")
    before = json.loads(stack.litefleet("tenant", "show", "first", "--json"))
    stack("kill", before["host"])

    def elsewhere() -> Any:
        now = json.loads(stack.litefleet("tenant", "show", "first", "--json"))
        return now if now["serving"] and now["epoch"] > before["epoch"] else None

    now = stack.until(elsewhere, "another host has taken it over")
    assert now["host"] != before["host"]
    result = stack.until(
        lambda: stack.litefleet("exec", "show", "grace", "--tenant", "first", "--json"), "a view"
    )
    stack.until(
        lambda: (
            json.loads(stack.litefleet("exec", "show", "grace", "--tenant", "first", "--json"))[
                "status"
            ]
            == "completed"
        ),
        f"the execution is completed: {result}",
    )
    # Everything but the volumes is made anew, and the fleet is what it was.
    stack("down", "-t", "60")
    stack("up", "-d")
    stack.until(live, "three hosts are live again")
    stack.until(elsewhere, "the tenant serves again")
    listed = stack.litefleet("exec", "list", "--tenant", "first", "--json")
    assert "grace" in listed


def test_no_secret_is_where_docker_inspect_shows_it(stack: Stack, engine: Any) -> None:
    stack("up", "-d", "store", "coordinator")
    containers = engine.containers.list(
        filters={"label": f"com.docker.compose.project={stack.project}"}
    )
    assert len(containers) == 2
    stack.until(lambda: stack.litefleet("host", "list", "--json"), "the coordinator answers")
    known = json.loads(stack("exec", "-T", "coordinator", "cat", "/secrets/fleet.json"))
    assert set(known) == {"key", "secret", "token"}
    for container in containers:
        assert not any(value in json.dumps(container.attrs) for value in known.values())
        out = container.exec_run(["sh", "-c", "cat /proc/[0-9]*/cmdline"]).output.decode()
        assert not any(value in out for value in known.values())


def test_the_profile_for_minio_is_well_formed(stack: Stack) -> None:
    """Its image comes from a registry, which tests do without: only the file is looked at."""
    given = {
        "COMPOSE_PROFILES": "minio",
        "STORE_ENDPOINT": "http://minio:9000",
        "STORE_IAM": "no",
        "STORE_KEY": "fleet",
        "STORE_SECRET": "not-a-secret",
    }
    told = stack("config", more=given)
    assert "MINIO_ROOT_USER: fleet" in told
    assert "STORE_ENDPOINT: http://minio:9000" in told
