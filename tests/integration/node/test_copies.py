"""Independent copies of a live tenant, on real parts."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from backup import copies, keys
from backup.copies import BadCopy
from backup.sealing import Keyring, KeySource, new_keyring, parse_keyring
from fleet.past import fetch_copy
from fleet.problem import Problem
from node.engine.inspection import inspect_log
from node.wire import WireError

from .conftest import TestHost, TestNode

OnHost = Callable[[Callable[[TestHost], Awaitable[None]]], None]


def test_a_live_tenant_is_copied_by_another_route(on_host: OnHost, tmp_path: Path) -> None:
    async def scenario(host: TestHost) -> None:
        node = await host.start()
        await node.serving()
        for number in range(3):
            await node.begin(f"job-{number}", steps=40, ack="async")
        first = await node.remote.copy()
        for number in range(3):
            assert await node.result(f"job-{number}") == 40
        await node.begin("later", steps=1, ack="async")
        assert await node.result("later") == 1
        second = await node.remote.copy()
        assert second.sequence > first.sequence
        # Nothing was committed since.
        assert await node.remote.copy() == second
        assert copies.read(host.store, "t") == [first, second]
        for number, copy in enumerate((first, second)):
            into = tmp_path / f"{number}.db"
            copies.fetch(host.store, copy, into)
            log = inspect_log(into)
            assert (log.sequence, log.chain, log.tenant) == (copy.sequence, copy.chain, "t")
        assert log.executions["completed"] == 4
        # The replica is none the worse for it.
        await node.remote.drain()
        assert (await node.ended()).state == "released"
        assert [path.name for path in node.folder.iterdir() if "snapshot" in path.name] == []
        assert list((node.folder / "data").glob("copy*")) == []
        with pytest.raises(WireError, match="nothing was copied"):
            await node.remote.copy()
        store = host.store
        store.put(keys.copy("t", second.name), b"something else")
        with pytest.raises(BadCopy):
            copies.fetch(store, second, tmp_path / "bad.db")

    on_host(scenario)


def test_copies_are_sealed_through_a_rotation(on_host: OnHost, tmp_path: Path) -> None:
    async def scenario(host: TestHost) -> None:
        node = await host.start()
        await node.serving()
        await node.begin("job", steps=3, ack="async")
        assert await node.result("job") == 3
        old = parse_keyring(new_keyring("old"), "it")
        keyring = Keyring(
            current="new", keys={**old.keys, **parse_keyring(new_keyring("new"), "it").keys}
        )
        plain = await node.remote.copy()
        first = await node.remote.copy(old.for_tenant("t"))
        assert await node.remote.copy(old.for_tenant("t")) == first
        second = await node.remote.copy(keyring.for_tenant("t"))
        assert [copy.key for copy in copies.read(host.store, "t")] == [None, "old", "new"]
        assert (plain.chain, first.chain) == (first.chain, second.chain)
        for number, copy in enumerate((first, second)):
            assert copy.key is not None
            assert b"SQLite" not in host.store.get(copy.object).body
            into = tmp_path / f"{number}.db"
            copies.fetch(host.store, copy, into, keyring.for_tenant("t", copy.key))
            assert inspect_log(into).chain == copy.chain
        # What a person is told.
        ring = tmp_path / "ring.json"
        ring.write_text(new_keyring("other"))
        for source, said in (
            (None, "sealed under key 'new'"),
            (KeySource(file=ring), "the keyring has only other"),
            (KeySource(file=tmp_path / "none"), "cannot be read"),
        ):
            with pytest.raises(Problem, match=said) as raised:
                fetch_copy(host.settings, "t", "newest", tmp_path / "x.db", source)
            assert raised.value.type == "no_key"

    on_host(scenario)


def test_a_copy_is_ended_when_the_engine_dies(on_host: OnHost) -> None:
    """It has the file open, and the first to open it after an engine's death must be alone."""

    async def scenario(host: TestHost) -> None:
        node = await host.start()
        await node.serving()
        await node.begin("job", steps=5, ack="async")
        copying = asyncio.create_task(node.remote.copy())
        while not (children := copying_processes(node)):
            assert not copying.done()
            await asyncio.sleep(0.005)
        # It shall not be quicker than what follows.
        os.kill(children[0], signal.SIGSTOP)
        os.kill((await node.status()).pids["engine"], signal.SIGKILL)
        with pytest.raises(WireError, match="ended with -9"):
            await copying
        await node.until(lambda status: status.engine_restarts == 1 and status.serving, "is back")
        assert await node.result("job") == 5
        assert (await node.remote.copy()).sequence > 0

    on_host(scenario)


def copying_processes(node: TestNode) -> list[int]:
    """The processes that make a copy for a node."""
    return [
        child.pid
        for child in psutil.Process(node.pid).children()
        if "node.copying" in child.cmdline()
    ]
