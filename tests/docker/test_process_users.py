"""Nodes as processes of a host where the agent is root: what one tenant's code can reach."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fleet.settings import NodeLimits
from tests.docker.lab import Lab, lab

SIDECARS = 'for d in /proc/[0-9]*; do [ "$(cat $d/comm 2>/dev/null)" = litestream ] || continue; '


@pytest.fixture(scope="module")
def one(engine: Any, image: str) -> Iterator[Lab]:
    """Two tenants on one host."""
    with lab(engine, image) as found:
        found.add_host("host", limits=NodeLimits(pids=64, files=300))
        found.joined("host")
        found.create("acme")
        found.create("birch")
        yield found


def paths(one: Lab, tenant: str) -> dict[str, str]:
    """Where a tenant's files are, as its own host's root sees them."""
    folder = one.shell("host", f"echo /var/lib/litefleet/nodes/{tenant}/*").strip()
    name = folder.rpartition("/")[2]
    return {"folder": folder, "sockets": f"/var/lib/litefleet/s/{name}"}


def test_each_tenant_runs_as_users_of_its_own(one: Lab) -> None:
    acme, birch = one.ask("acme", "look"), one.ask("birch", "look")
    assert acme[0] == acme[1] == 200_000
    assert birch[0] == birch[1] == 200_002
    assert sorted(one.shell("host", SIDECARS + "stat -c %u $d; done; true").split()) == [
        "200001",
        "200003",
    ]


def test_an_engine_has_its_own_log_and_nobody_elses(one: Lab) -> None:
    mine, other = paths(one, "acme"), paths(one, "birch")
    assert one.ask("acme", "try_read", path=f"{mine['folder']}/data/log.db") == "open"
    assert one.ask("acme", "try_write", path=f"{mine['folder']}/data/scratch") == "open"
    for name in ("data/log.db", "data/log.db-wal", "engine/engine.log", "supervisor.log", "."):
        assert one.ask("acme", "try_read", path=f"{other['folder']}/{name}") == "EACCES"
    for name in ("engine.sock", "supervisor.sock", "control.sock"):
        assert one.ask("acme", "try_read", path=f"{other['sockets']}/{name}") == "EACCES"


def test_an_engine_reads_no_credential(one: Lab) -> None:
    mine = paths(one, "acme")
    _, _, engine, cradle, supervisor = one.ask("acme", "look")
    for path in (
        "/etc/lf/settings.json",
        "/var/lib/litefleet/accounts.json",
        "/var/lib/litefleet/agent.json",
        f"{mine['folder']}/sidecar/litestream.yml",
        f"{mine['folder']}/supervisor.log",
        f"/proc/{supervisor}/mem",
        f"/proc/{supervisor}/environ",
        f"/proc/{cradle}/mem",
        "/proc/1/environ",
    ):
        assert one.ask("acme", "try_read", path=path) == "EACCES", path
    assert one.ask("acme", "try_read", path=f"/proc/{engine}/mem") == "EIO"  # nothing at 0


def test_an_engine_reads_nothing_of_its_sidecars_memory(one: Lab) -> None:
    found = one.shell("host", SIDECARS + "echo ${d#/proc/}; done; true")
    pids = [int(pid) for pid in found.split()]
    assert len(pids) == 2
    for pid in pids:
        assert one.ask("acme", "try_read", path=f"/proc/{pid}/environ") == "EACCES"
        assert one.ask("acme", "try_end", pid=pid) == "EPERM"


def test_an_engine_ends_nobody_and_replaces_no_socket(one: Lab) -> None:
    _, _, _, cradle, supervisor = one.ask("acme", "look")
    other = one.ask("birch", "look")
    for pid in (1, cradle, supervisor, *other[2:]):
        assert one.ask("acme", "try_end", pid=pid) == "EPERM"
    sockets = paths(one, "acme")["sockets"]
    assert one.ask("acme", "try_write", path=f"{sockets}/authority") == "EACCES"
    assert one.ask("acme", "try_write", path="/apps/probing.py") in ("EROFS", "EACCES")
    assert one.ask("acme", "try_write", path="/var/lib/litefleet/nodes/x") == "EACCES"


def test_one_tenants_processes_are_counted_against_it_alone(one: Lab) -> None:
    assert one.ask("acme", "try_multiply", count=200) < 64
    assert one.ask("birch", "try_multiply", count=20) == 20


def test_files_that_an_engine_may_open_are_limited(one: Lab) -> None:
    limits = one.shell("host", f"cat /proc/{one.ask('acme', 'look')[2]}/limits")
    assert "Max open files            300                  300" in limits
    assert "Max core file size        0                    0" in limits
