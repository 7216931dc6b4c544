"""Nodes as containers: started, adopted, killed, limited, and shut off from one another."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from fleet.runtimes.docker import CAPABILITIES
from fleet.settings import AccountSettings, AgentSettings, DockerSettings, NodeLimits
from node.order import NodeStatus
from tests.docker.lab import APPS, Lab, lab, until

MB = 1 << 20


class Host:
    """An agent on this very machine, whose nodes are containers beside the lab's."""

    def __init__(self, one: Lab, name: str, folder: Path):
        self.lab = one
        self.name = name
        self.folder = folder
        gateway = one.engine.networks.get(one.tag).attrs["IPAM"]["Config"][0]["Gateway"]
        self.settings = AgentSettings(
            store=one.store(one.address("store")),
            token=SecretStr(one.token),
            listen_host=gateway,
            address_file=folder / "address",
            host=name,
            data=folder / "data",
            runtime="docker",
            docker=DockerSettings(
                image=one.image, apps=APPS, network=one.tag, endpoint="http://store:8333"
            ),
            limits=NodeLimits(memory_bytes=384 * MB, cpus=1.0, pids=100, files=400),
            accounts=AccountSettings(first=300_000),
        )
        self.settings.write(folder / "settings.json")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert self.settings.address_file is not None
        self.settings.address_file.unlink(missing_ok=True)
        with (self.folder / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fleet.agent", str(self.folder / "settings.json")],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(self.settings.address_file.exists, "the agent answers")
        self.lab.joined(self.name)

    def end(self, number: int = signal.SIGKILL) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)

    def containers(self, tenant: str | None = None) -> list[Any]:
        labels = [f"litefleet.host={self.name}"]
        if tenant is not None:
            labels.append(f"litefleet.tenant={tenant}")
        found: list[Any] = self.lab.engine.containers.list(
            all=True, filters={"label": labels}, ignore_removed=True
        )
        return found

    def container(self, tenant: str) -> Any:
        [found] = self.containers(tenant)
        return found

    def node(self, tenant: str) -> NodeStatus:
        address = (self.folder / "address").read_text().strip()
        headers = {"authorization": f"Bearer {self.lab.token}"}
        answer = httpx.get(f"{address}/api/nodes", headers=headers).json()
        nodes = [NodeStatus.model_validate(node) for node in answer["nodes"]]
        return next(node for node in nodes if node.tenant == tenant)


@pytest.fixture(scope="module")
def host(engine: Any, image: str) -> Iterator[Host]:
    """One host with two tenants."""
    folder = Path(tempfile.mkdtemp(prefix="lf-host-", dir="/tmp"))
    os.chmod(folder, 0o711)
    with lab(engine, image) as one:
        found = Host(one, f"h{one.tag}", folder)
        try:
            found.start()
            one.create("acme")
            one.create("birch")
            yield found
        except BaseException:
            print((folder / "agent.log").read_text()[-3000:])
            raise
        finally:
            if found.process is not None and found.process.poll() is None:
                found.end()
            for container in found.containers():
                with contextlib.suppress(Exception):
                    container.remove(force=True)
            shutil.rmtree(folder, ignore_errors=True)


def test_a_node_is_one_container_with_what_it_needs_and_no_more(host: Host) -> None:
    about = host.container("acme").attrs
    settings = about["HostConfig"]
    assert about["Config"]["Labels"]["litefleet.tenant"] == "acme"
    assert settings["ReadonlyRootfs"]
    assert settings["CapDrop"] == ["ALL"]
    assert sorted(settings["CapAdd"]) == sorted(CAPABILITIES)
    assert settings["SecurityOpt"] == ["no-new-privileges:true"]
    assert not settings["Privileged"]
    assert settings["Memory"] == settings["MemorySwap"] == 384 * MB
    assert settings["NanoCpus"] == 10**9
    assert settings["PidsLimit"] == 100
    mounts = {mount["Destination"]: mount["RW"] for mount in about["Mounts"]}
    data = host.settings.data
    assert mounts.pop("/apps") is False
    assert all(path.startswith((f"{data}/nodes/acme/", f"{data}/s/")) for path in mounts)
    assert len(mounts) == 2


def test_the_supervisor_is_the_first_process_and_the_engine_another_user(host: Host) -> None:
    user, group, _, _, supervisor = host.lab.ask("acme", "look")
    assert (user, group) == (300_000, 300_000)
    assert supervisor == 1
    assert host.lab.ask("birch", "look")[0] == 300_002


def test_an_engine_reads_no_credential(host: Host) -> None:
    folder = host.node("acme").database.removesuffix("/data/log.db")
    for path in ("/proc/1/mem", "/proc/1/environ", f"{folder}/sidecar/litestream.yml"):
        assert host.lab.ask("acme", "try_read", path=path) == "EACCES", path
    # Of the host and of the other tenant there is nothing at all.
    other = host.node("birch").database
    for path in (str(host.folder / "settings.json"), other, "/var/run/docker.sock"):
        assert host.lab.ask("acme", "try_read", path=path) == "ENOENT", path
    code, out = host.container("acme").exec_run(["cat", "/proc/1/environ"])
    assert code == 0
    assert b"not-a-secret" not in out


def test_an_engine_writes_to_its_data_and_tmp_only(host: Host) -> None:
    folder = host.node("acme").database.removesuffix("/data/log.db")
    assert host.lab.ask("acme", "try_write", path=f"{folder}/data/scratch") == "open"
    assert host.lab.ask("acme", "try_write", path="/tmp/scratch") == "open"
    for path in ("/opt/litefleet/x", "/apps/x", "/x"):
        assert host.lab.ask("acme", "try_write", path=path) in ("EROFS", "EACCES"), path
    assert host.lab.ask("acme", "try_end", pid=1) == "EPERM"


def test_processes_are_limited_and_other_tenants_do_not_notice(host: Host) -> None:
    assert host.lab.ask("acme", "try_multiply", count=300) < 100
    assert host.lab.ask("birch", "try_multiply", count=20) == 20
    assert host.node("acme").state == "active"


def test_memory_is_limited_and_an_engine_that_takes_it_is_restarted_in_place(host: Host) -> None:
    before = host.node("acme")
    container = host.container("acme").id
    assert host.lab.ask("acme", "try_eat", mark="/tmp/eaten", megabytes=600) == "ended"
    after = host.node("acme")
    assert after.engine_restarts > before.engine_restarts
    assert (after.epoch, after.incarnation) == (before.epoch, before.incarnation)
    assert host.container("acme").id == container


def test_a_container_is_healthy_while_its_node_serves(host: Host) -> None:
    code, words = host.container("acme").exec_run(["litefleet-health"])
    assert (code, words) == (0, b"")


def test_a_container_that_is_killed_is_replaced_with_its_tail(host: Host) -> None:
    lab = host.lab
    assert lab.begin("acme", "act", "killed", steps=20, pause=0.1)
    epoch = lab.client.tenant("acme").epoch
    first = host.container("acme")
    first.kill(signal.SIGKILL)
    lab.serving("acme", epoch + 1)
    assert lab.result("acme", "killed") == sum(range(20))
    second = host.container("acme")
    assert second.id != first.id
    mine = [effect for effect in lab.ledger() if effect["execution"] == "killed"]
    assert {effect["step"] for effect in mine} == {f"effect-{n}" for n in range(20)}
    assert len({effect["key"] for effect in mine}) == 20


def test_an_agent_that_is_started_again_adopts_its_containers(host: Host) -> None:
    lab = host.lab
    before = {tenant: host.node(tenant) for tenant in ("acme", "birch")}
    containers = {container.id for container in host.containers()}
    assert lab.begin("acme", "act", "adopted", steps=60, pause=0.1)
    assert host.end(signal.SIGKILL) == -signal.SIGKILL
    host.start()
    for tenant, node in before.items():
        until(lambda tenant=tenant: host.node(tenant).serving, "it is adopted")  # type: ignore[misc]
        assert host.node(tenant).pids == node.pids
        assert host.node(tenant).epoch == node.epoch
    assert lab.result("acme", "adopted") == sum(range(60))
    assert {container.id for container in host.containers()} == containers
    words = (host.folder / "agent.log").read_text()
    assert "goes on as" in words


def test_a_stray_container_is_ended_by_the_next_agent(host: Host) -> None:
    """Such as one whose agent died before it had written down what it had started."""
    labels = {"litefleet.fleet": "fleet", "litefleet.host": host.name, "litefleet.tenant": "x"}
    stray = host.lab.engine.containers.run(
        host.lab.image, ["sleep", "600"], detach=True, labels=labels
    )
    other = host.lab.engine.containers.run(
        host.lab.image, ["sleep", "600"], detach=True, labels={**labels, "litefleet.host": "other"}
    )
    try:
        assert host.end(signal.SIGHUP) == 0
        host.start()

        def ended() -> bool:
            return stray.id not in {container.id for container in host.containers()}

        until(ended, "the stray is gone")
        assert len(host.containers()) == 2
        other.reload()
        assert other.status == "running"
    finally:
        for container in (stray, other):
            with contextlib.suppress(Exception):
                container.remove(force=True)


def test_a_frozen_container_is_fenced_by_its_own_clock(host: Host) -> None:
    """`docker pause` past the deadline: what comes back has no more effects."""
    lab = host.lab
    epoch = lab.client.tenant("birch").epoch
    assert lab.begin("birch", "act", "frozen", steps=40, pause=0.1)
    container = host.container("birch")
    container.pause()
    # Its agent cannot tell it to end; it is removed all the same.
    host.end(signal.SIGKILL)
    host.start()
    lab.serving("birch", epoch + 1)
    assert container.id not in {one.id for one in host.containers()}
    assert lab.result("birch", "frozen") == sum(range(40))


def test_a_planned_stop_leaves_no_container(host: Host) -> None:
    assert host.end(signal.SIGTERM) == 0
    assert host.containers() == []
    owners = json.loads((host.settings.data / "accounts.json").read_text())
    assert owners == {"acme": 0, "birch": 1}
