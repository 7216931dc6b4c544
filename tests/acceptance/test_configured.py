"""A fleet of processes that were started one by one, each from litefleet.toml."""

from __future__ import annotations

import json
import signal
import socket
import tempfile
import time
from pathlib import Path

import pytest

from fleet.seaweed import EmbeddedStore

from .conftest import User, interrupt


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.slow
def test_coordinator_and_hosts_run_from_one_file(user: User) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="lf-store-") as folder,
        EmbeddedStore(Path(folder)) as store,
    ):
        settings = store.settings("configured")
        port = free_port()
        (user.folder / "litefleet.toml").write_text(f'''
address = "http://127.0.0.1:{port}"
token = "a-token-of-the-fleet"

[store]
endpoint = "{settings.endpoint}"
bucket = "{settings.bucket}"
prefix = "configured"

[store.credentials]
access_key_id = "{settings.credentials.access_key_id}"
secret_access_key = "{settings.credentials.secret_access_key.get_secret_value()}"

[coordinator]
listen_port = {port}
data = "{user.folder}/c"

[host]
name = "one"
data = "{user.folder}/h1"

[host.accounts]
users = "shared"
''')
        assert user.run("config", "check", "litefleet.toml").returncode == 0
        coordinator = user.start("coordinator", "run")
        first = user.start("host", "run")
        second = {"LITEFLEET_HOST__NAME": "two", "LITEFLEET_HOST__DATA": f"{user.folder}/h2"}
        other = user.start("host", "run", env=second)
        until = time.monotonic() + 60
        hosts: list[str] = []
        while len(hosts) < 2 and time.monotonic() < until:
            time.sleep(0.5)
            listed = user.run("host", "list", "--json")
            if listed.returncode == 0:
                items = json.loads(listed.stdout)["items"]
                hosts = sorted(one["name"] for one in items if one["state"] == "live")
        assert hosts == ["one", "two"], user.errors
        created = user.run("tenant", "create", "acme", "--app", "tests.apps.counting", "--json")
        assert created.returncode == 0, created.stderr
        assert json.loads(created.stdout)["serving"]
        host = json.loads(created.stdout)["host"]
        moved = user.run("tenant", "move", "acme", "--json")
        assert json.loads(moved.stdout)["to_host"] == ({"one", "two"} - {host}).pop()
        for process in (first, other, coordinator):
            assert interrupt(process, signal.SIGTERM) == 0, user.errors


def test_what_is_wrong_with_the_file_is_told(user: User) -> None:
    path = user.folder / "litefleet.toml"
    path.write_text("[coordinator]\nlisten_prot = 1\n")
    for command in (("config", "show"), ("coordinator", "run"), ("host", "run")):
        refused = user.run(*command)
        assert refused.returncode == 1
        assert "Traceback" not in refused.stderr
    path.write_text('token = "x"\n[store]\nendpoint = "http://s"\nbuckett = "b"\n')
    refused = user.run("config", "check", "litefleet.toml")
    assert (refused.returncode, "store.bucket" in refused.stderr) == (1, True)
    missing = user.run("config", "show", "--config", "none.toml")
    assert (missing.returncode, "no file none.toml" in missing.stderr) == (1, True)
