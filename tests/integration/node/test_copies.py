"""Independent copies of a live tenant, on real parts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from backup import copies, keys
from backup.copies import BadCopy
from node.engine.inspection import inspect_log
from node.wire import WireError

from .conftest import TestHost

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
