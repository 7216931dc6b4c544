"""Going back in place on real parts: a new epoch of a past state, the undo, and whatever dies
in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from backup import keys, lineage, ownership
from backup.ownership import Origin, OwnerState
from node.engine.inspection import LogSummary, committed_at, inspect_log
from node.order import NodeState
from restore import purge
from restore.history import read_history
from restore.moment import AtBookmark, EndOf, Moment, restore

from .conftest import Scenario, TestHost, TestNode

OnHost = Callable[[Scenario], None]


async def state_at(host: TestHost, moment: Moment, name: str, number: int = 1) -> Origin:
    """Rehearse a moment, as the coordinator has a host do it."""
    done = await restore(host.settings, "t", moment, host.data / name, inspect_log, committed_at)
    log: LogSummary = done.checked
    return Origin(
        tenant="t",
        lineage=log.lineage,
        epoch=done.choice.epoch,
        txid=done.fetched.txid,
        sequence=log.sequence,
        number=number,
    )


async def released(node: TestNode) -> None:
    await node.remote.drain()
    status = await node.ended()
    assert status.state is NodeState.RELEASED, status.detail


async def ids(node: TestNode) -> set[str]:
    answer = await node.call("GET", "/executions")
    return {one["id"] for one in answer.json()["items"]}


async def with_two(host: TestHost) -> tuple[TestNode, Origin]:
    """A tenant that ran `one`, then `two` and `open`, and its state before the second."""
    node = await host.start(durability="before_effects")
    await node.serving()
    answer = (await node.begin("one", steps=2)).json()
    assert await node.result("one") == 2
    await node.until(lambda status: status.lag.seconds == 0, "caught up")
    await asyncio.sleep(1.3)
    await node.begin("two", steps=2)
    assert await node.result("two") == 2
    await node.begin("open", steps=3, pause=30.0)
    epoch, sequence = answer["bookmark"].split(":")
    return node, await state_at(host, AtBookmark(int(epoch), int(sequence)), "rehearsal")


def test_back_to_a_bookmark_and_the_undo_of_it(on_host: OnHost) -> None:
    async def scenario(host: TestHost) -> None:
        node, then = await with_two(host)
        await released(node)
        owner = host.owner()
        assert owner is not None
        end = owner.record.floor_txid

        node = await host.start(durability="before_effects", origin=then)
        status = await node.serving()
        assert status.epoch == 2
        assert await ids(node) == {"one"}
        recorded = lineage.read(host.store, host.owner().record)  # type: ignore[union-attr]
        assert [(one.epoch, one.parent, one.parent_txid) for one in recorded] == [
            (2, 1, end),
            (1, None, 0),
        ]
        assert recorded[0].origin == then
        # What was left is all there, to its end.
        left = await state_at(host, EndOf(1), "undo", number=2)
        assert left.txid == end

        # Work goes on from the past state, and a take-over does not go back again.
        await node.begin("three", steps=1)
        assert await node.result("three") == 1
        node.kill_all(await node.status())
        node = await host.start(durability="before_effects")
        await node.serving()
        assert await ids(node) == {"one", "three"}

        await released(node)
        node = await host.start(durability="before_effects", origin=left)
        await node.serving()
        assert await ids(node) == {"one", "two", "open"}
        # And what the undo has left can be gone back to as well.
        again = await state_at(host, EndOf(3), "redo", number=3)
        assert again.sequence > then.sequence
        assert [span.epoch for span in read_history(host.store, "t").spans] == [4, 3, 2, 1]
        owner = host.owner()
        assert owner is not None
        assert (owner.record.restored, owner.record.state) == (2, OwnerState.ACTIVE)

    on_host(scenario)


def test_a_node_killed_at_any_time_of_a_restore_is_followed_by_one_that_finishes_it(
    on_host: OnHost,
) -> None:
    async def scenario(host: TestHost) -> None:
        node, then = await with_two(host)
        await released(node)
        unclaimed = True
        for delay in (0.0, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7):
            before = host.owner()
            assert before is not None
            if before.record.state is OwnerState.ACTIVE:
                break
            # As `decide` has it: the restore is ordered until a claim has taken it up.
            unclaimed = before.record.restored < then.number
            node = await host.start(durability="before_effects", origin=then if unclaimed else None)
            await asyncio.sleep(delay)
            node.kill_all(await node.status())
            await asyncio.sleep(0.1)
        node = await host.start(durability="before_effects")
        await node.serving()
        assert await ids(node) == {"one"}
        owner = host.owner()
        assert owner is not None
        assert owner.record.restored == 1
        origins = [one.origin for one in lineage.read(host.store, owner.record)]
        assert origins.count(then) == 1

    on_host(scenario)


def test_a_state_that_is_gone_leaves_the_tenant_where_it_was(on_host: OnHost) -> None:
    async def scenario(host: TestHost) -> None:
        node, then = await with_two(host)
        await released(node)
        gone = then.model_copy(update={"txid": 10_000})
        node = await host.start(durability="before_effects", origin=gone)
        status = await node.ended()
        # The restore has failed, and the tenant is none the worse for it.
        assert status.state is NodeState.FAILED, status
        owner = host.owner()
        assert owner is not None
        assert (owner.record.state, owner.record.origin) == (OwnerState.RESTORING, None)
        assert "10000" in owner.record.restore_failure
        node = await host.start(durability="before_effects")
        await node.serving()
        assert await ids(node) == {"one", "two", "open"}

    on_host(scenario)


def test_a_damaged_tenant_is_mended_by_going_back(on_host: OnHost) -> None:
    async def scenario(host: TestHost) -> None:
        node, then = await with_two(host)
        await released(node)
        # What followed the past state is lost, and the tenant cannot be started any more.
        prefix = keys.epoch("t", 1)
        for entry in list(host.store.list(prefix)):
            low, _, high = entry.key.rpartition("/")[2].removesuffix(".ltx").partition("-")
            if int(low, 16) == then.txid + 1 or (int(low, 16) <= then.txid < int(high, 16)):
                host.store.delete(entry.key)
        node = await host.start(durability="before_effects")
        assert (await node.ended()).state is NodeState.DAMAGED
        owner = host.owner()
        assert owner is not None
        assert owner.record.state is OwnerState.DAMAGED

        node = await host.start(durability="before_effects", origin=then)
        await node.serving()
        assert await ids(node) == {"one"}

    on_host(scenario)


def test_a_fork_is_made_again_until_it_is_there(on_host: OnHost) -> None:
    """Killed at any time on its way, it is never empty, and never held twice."""

    async def scenario(host: TestHost) -> None:
        _, then = await with_two(host)
        for delay in (0.0, 0.05, 0.1, 0.2, 0.3, 0.5):
            before = host.owner("copy")
            if before is not None and before.record.state is OwnerState.ACTIVE:
                break
            fork = await host.start("copy", origin=then if before is None else None)
            await asyncio.sleep(delay)
            fork.kill_all(await fork.status())
            await asyncio.sleep(0.1)
        fork = await host.start("copy", origin=then if host.owner("copy") is None else None)
        await fork.serving()
        assert await ids(fork) == {"one"}
        record = host.owner("copy").record  # type: ignore[union-attr]
        assert (record.genesis, record.tenant) == (False, "copy")
        assert record.lineage != then.lineage
        newest = await restore(
            host.settings, "copy", EndOf(record.epoch), host.data / "c", inspect_log, committed_at
        )
        assert (newest.checked.tenant, newest.checked.lineage) == ("copy", record.lineage)

    on_host(scenario)


def test_a_fork_whose_source_is_gone_is_damaged_and_never_empty(on_host: OnHost) -> None:
    async def scenario(host: TestHost) -> None:
        _, then = await with_two(host)
        gone = then.model_copy(update={"txid": 10_000})
        fork = await host.start("copy", origin=gone)
        assert (await fork.ended()).state is NodeState.DAMAGED
        owner = host.owner("copy")
        assert owner is not None
        assert owner.record.state is OwnerState.DAMAGED

    on_host(scenario)


def test_a_hold_and_a_mark_do_not_cost_a_node_its_claim(on_host: OnHost) -> None:
    """Others write beside its claim: it reads again, and its planned stop loses nothing."""

    async def scenario(host: TestHost) -> None:
        node, _ = await with_two(host)
        await released(node)
        node = await host.start(durability="before_effects")
        await node.serving()
        purge.change(host.store, "t", lambda now: ownership.set_hold(now, True))
        purge.change(host.store, "t", lambda now: ownership.set_hold(now, False))
        assert purge.mark(host.store, "t", [1]) is not None
        answer = (await node.begin("three", steps=1)).json()
        assert answer["durable"]
        await released(node)
        owner = host.owner()
        assert owner is not None
        assert (owner.record.state, owner.record.purging) == (OwnerState.RELEASED, (1,))
        # Nobody restores from what is marked.
        marked = Origin(tenant="t", lineage=owner.record.lineage, epoch=1, txid=1)
        for tenant in ("t", "copy"):
            node = await host.start(tenant, origin=marked)
            status = await node.ended()
            assert "being removed" in status.detail
        assert purge.purge(host.store, "t", 1, 0.0) is not None
        node = await host.start(durability="before_effects")
        await node.serving()
        assert await ids(node) == {"one", "two", "open", "three"}

    on_host(scenario)
