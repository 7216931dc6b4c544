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
