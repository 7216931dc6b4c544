"""Drills on real parts: a live tenant's backup restored beside it, and what spoils one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from backup import keys
from fleet.agent.drilling import checked
from node.engine.inspection import committed_at
from node.order import NodeStatus
from restore.drill import Drill, Source, judge, practise
from restore.plan import list_epoch
from tests.integration.node.conftest import TestHost, TestNode

OnHost = Callable[[Callable[[TestHost], Awaitable[None]]], None]


async def drilled(host: TestHost, node: TestNode | None, scratch: Path) -> Drill:
    """Drill it, and compare with a live node if there is one."""
    status = await node.status() if node is not None else NodeStatus(tenant="t")
    found, ending = await practise(
        host.settings, host.store, "t", scratch, checked, committed_at, host="h"
    )
    live = await node.remote.chain_at(found.sequence) if node is not None else None
    source = Source(status.epoch, status.lag.proven_sequence, status.lag.seconds)
    assert list(scratch.iterdir()) == []
    return judge(found, ending.chain if ending else None, source, live)


def test_a_live_tenant_is_drilled_under_load(on_host: OnHost, tmp_path: Path) -> None:
    async def scenario(host: TestHost) -> None:
        node = await host.start()
        await node.serving()
        for round_ in range(3):
            for number in range(5):
                await node.begin(f"job-{round_}-{number}", steps=40, ack="async")
            found = await drilled(host, node, tmp_path / "scratch")
            assert (found.ok, found.compared, found.finding) == (True, True, "")
            assert (found.epoch, found.host) == (1, "h")
            assert found.fetch < found.seconds
        for number in range(5):
            await node.result(f"job-2-{number}")

    on_host(scenario)


@pytest.mark.parametrize("spoiled", ["missing", "garbled", "truncated"])
def test_what_is_spoiled_in_the_bucket_is_found(
    on_host: OnHost, tmp_path: Path, spoiled: str
) -> None:
    async def scenario(host: TestHost) -> None:
        node = await host.start()
        await node.serving()
        for number in range(4):
            # Durable ones: each is in a file of its own.
            await node.begin(f"job-{number}", steps=1)
        assert (await drilled(host, node, tmp_path / "scratch")).ok
        # With nobody left who would upload another file that has the same.
        node.kill_all(await node.status())
        # What it had sent may still arrive.
        await asyncio.sleep(1.0)
        covering = [f for f in list_epoch(host.store, "t", 1).files if f.low <= 3 <= f.high]
        assert covering
        for file in covering:
            key = keys.epoch("t", 1) + file.name
            body = bytearray(host.store.get(key).body)
            if spoiled == "missing":
                host.store.delete(key)
            elif spoiled == "garbled":
                # A single bit may be one of a page's unused bytes: `litefleet verify` sees that.
                third = len(body) // 3
                body[third : 2 * third] = bytes(byte ^ 0x5A for byte in body[third : 2 * third])
                host.store.put(key, bytes(body))
            else:
                host.store.put(key, bytes(body[: len(body) // 2]))
        found = await drilled(host, None, tmp_path / "scratch")
        assert not found.ok
        assert found.finding

    on_host(scenario)
