"""Serving: commits, uploads, proofs; and the hand-over."""

from __future__ import annotations

from collections.abc import Iterator

from tests.model.bucket import (
    changed,
    files_of,
    held,
    planned,
    put,
    rows_of,
    swap_owner,
)
from tests.model.search import Broken
from tests.model.world import (
    Config,
    File,
    Node,
    World,
    Write,
    spend,
    with_node,
    without_node,
)

Steps = Iterator[tuple[str, World]]


def active(world: World, config: Config, node: Node) -> Steps:
    yield from _committing(world, node)
    if world.budget.drains:
        after = _transition(spend(world, "drains"), config, node, "draining")
        yield f"drain n{node.number}", after


def _committing(world: World, node: Node) -> Steps:
    if world.budget.commits:
        row = world.commits + 1
        rows = (*node.rows, row)
        after = spend(world, "commits")._replace(commits=row)
        if node.epoch == world.active:
            after = after._replace(history=rows)
        yield f"commit n{node.number}", with_node(after, node, rows=rows)


def uploading(world: World, config: Config, node: Node) -> Steps:
    if node.uploaded >= node.txid:
        return
    txid = node.uploaded + 1
    file = File(node.epoch, 0, txid, txid, (node.rows[node.base + txid - 2 :][:1],))
    yield f"upload n{node.number}", with_node(put(world, file), node, uploaded=txid)
    if world.budget.late_files:
        flight = Write("file", 0, 0, file, -1)
        sent = spend(world._replace(flights=world.flights | {flight}), "late_files")
        yield f"lose-upload n{node.number}", sent


def proving(world: World, config: Config, node: Node) -> Steps:
    """One round of the barrier, a request at a time."""
    rules, name = config.rules, f"n{node.number}"
    syncs = node.uploaded == node.txid or not rules.sync_before_ack
    due = node.proving < 0 and node.proven < node.txid
    if due and syncs and (rules.owner_read_after_sync or node.confirmed):
        confirmed = node.confirmed or not rules.owner_read
        yield f"sync {name}", with_node(world, node, proving=node.txid, confirmed=confirmed)
    reads = node.proving >= 0 or not rules.owner_read_after_sync
    if reads and not node.confirmed and node.proven < node.txid:
        now = world.owner
        if now is not None and held(now, node.machine, node.incarnation, node.number, node.epoch):
            yield f"read {name}", with_node(world, node, confirmed=True)
        else:
            yield f"fenced {name}", without_node(world, node)
    if node.proving >= 0 and node.confirmed:
        covered = node.proving if rules.commits_before_sync else node.txid
        yield f"acknowledge {name}", _acknowledged(world, node, covered)


def _acknowledged(world: World, node: Node, covered: int) -> World:
    rows = frozenset(node.rows[: node.base + covered - 1])
    if node.epoch <= world.written_off:
        return with_node(world, node, proving=-1, confirmed=False, proven=covered)
    if node.epoch < world.active and not rows <= set(world.begun) and not world.lied:
        raise Broken(
            "durable", f"{set(rows)} is acknowledged, but epoch {world.active} began without it"
        )
    files = files_of(world, node.epoch)
    there = rows_of(files, planned(files).reachable)
    if not rows <= set(there) and not world.wounded:
        raise Broken("durable", f"{set(rows)} is acknowledged, but the bucket has {there}")
    world = world._replace(acked=world.acked | rows)
    return with_node(world, node, proving=-1, confirmed=False, proven=covered)


def _transition(world: World, config: Config, node: Node, to: str, floor: int = 0) -> World:
    now = world.owner
    if now is None or now.etag != node.etag:
        return without_node(world, node)
    after = swap_owner(world, config, node.etag, changed(now, to, node.epoch, floor))
    assert after is not None
    assert after.owner is not None
    return with_node(after, node, phase=to, etag=after.owner.etag)


def draining(world: World, config: Config, node: Node) -> Steps:
    if not config.rules.engine_stops_first:
        yield from _committing(world, node)
    if node.uploaded == node.txid or not config.rules.release_is_proven:
        yield f"final n{node.number}", with_node(world, node, phase="stopped")


def stopped(world: World, config: Config, node: Node) -> Steps:
    if not config.rules.engine_stops_first:
        yield from _committing(world, node)
    reached = planned(files_of(world, node.epoch))
    if config.rules.release_is_proven and (reached.gapped or reached.reachable < node.uploaded):
        return
    name = f"n{node.number}"
    after = _transition(world, config, node, "released", reached.reachable)
    yield f"release {name}", _ended(after, node)
    now = world.owner
    if world.budget.late_records and now is not None and now.etag == node.etag:
        wanted = changed(now, "released", node.epoch, reached.reachable)
        flight = Write("owner", 0, node.etag, wanted, -1)
        sent = spend(world._replace(flights=world.flights | {flight}), "late_records")
        if config.rules.unclear_is_over:
            yield f"lose-release {name}", without_node(sent, node)
        else:
            yield f"lose-release {name}", with_node(sent, node, phase="active")


def _ended(world: World, node: Node) -> World:
    for there in world.nodes:
        if there.number == node.number:
            return without_node(world, there)
    return world
