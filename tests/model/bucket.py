"""The bucket: swaps, files, lists; and the project's own decisions on records, by value.

What the records allow (`backup.ownership`), how long authority lasts (`backup.lease`) and what a
list leads to (`restore.plan`) is not modelled: it is the real code, asked once for each question.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from backup import ownership
from backup.lease import Authority, Watch
from backup.ownership import NotAllowed, Owner, OwnerRecord, OwnerState, Parent, Tomb
from restore.plan import LtxFile, Plan, plan
from tests.model.search import Broken
from tests.model.world import TICK, Claim, Config, File, Grave, Lease, Rows, World, Write

SUPERSEDABLE = frozenset(str(state) for state in ownership.SUPERSEDABLE)


# -- the real decisions ------------------------------------------------------------------------


def as_record(claim: Claim) -> OwnerRecord:
    """The record that a claim of the model stands for."""
    return OwnerRecord(
        tenant="t",
        lineage="l",
        epoch=claim.epoch,
        host=f"m{claim.machine}",
        incarnation=f"{claim.incarnation}.{claim.node}",
        state=OwnerState(claim.state),
        genesis=claim.genesis,
        parent=Parent(epoch=claim.parent) if claim.parent else None,
        floor_txid=claim.floor,
        deletion=claim.deletion,
        tomb=Tomb(
            state=OwnerState(claim.tomb.state),
            erasing=claim.tomb.erasing,
            erased=claim.tomb.erased,
        )
        if claim.tomb is not None
        else None,
    )


def as_claim(record: OwnerRecord, etag: int) -> Claim:
    """A record as the model has it."""
    agent, _, node = record.incarnation.partition(".")
    return Claim(
        epoch=record.epoch,
        machine=int(record.host[1:]) if record.host else -1,
        incarnation=int(agent) if agent else 0,
        node=int(node) if node else 0,
        state=str(record.state),
        parent=record.parent.epoch if record.parent else 0,
        floor=record.floor_txid,
        genesis=record.genesis,
        etag=etag,
        deletion=record.deletion,
        tomb=Grave(str(record.tomb.state), record.tomb.erasing, record.tomb.erased)
        if record.tomb is not None
        else None,
    )


def _owner(machine: int, incarnation: int, node: int) -> Owner:
    return Owner(host=f"m{machine}", incarnation=f"{incarnation}.{node}")


@cache
def claimed(
    now: Claim | None, machine: int, incarnation: int, node: int, ended: bool
) -> Claim | None:
    """`ownership.claim`; None where it is not allowed."""
    try:
        record = ownership.claim(
            as_record(now) if now is not None else None,
            "t",
            _owner(machine, incarnation, node),
            authority_ended=ended,
        )
    except NotAllowed:
        return None
    return as_claim(record, now.etag if now is not None else 0)


@cache
def changed(now: Claim, to: str, epoch: int, floor: int = 0) -> Claim:
    """`ownership.activate`, `.drain`, `.release` or `.damage` by the owner in ``now``."""
    record, owner = as_record(now), _owner(now.machine, now.incarnation, now.node)
    if to == "active":
        after = ownership.activate(record, owner, epoch)
    elif to == "draining":
        after = ownership.drain(record, owner, epoch)
    elif to == "released":
        after = ownership.release(record, owner, epoch, floor, None)
    else:
        after = ownership.damage(record, owner, epoch, "")
    return as_claim(after, now.etag)


@cache
def held(now: Claim, machine: int, incarnation: int, node: int, epoch: int) -> bool:
    """`OwnerRecord.held_by`."""
    return as_record(now).held_by(_owner(machine, incarnation, node), epoch)


@cache
def credited(left: int, sent: int) -> int | None:
    """`Authority.renewed`: the ticks left after an answer to what was sent ``sent`` ticks ago;
    None where it came too late."""
    authority = Authority(left * TICK)
    if not authority.renewed(-sent * TICK, 0.0):
        return None
    return int(authority.deadline / TICK)


@cache
def lapsed(unchanged: int) -> bool:
    """`Watch.lapsed` after that many ticks without a change."""
    return Watch("", -unchanged * TICK).lapsed(0.0)


@cache
def planned(files: frozenset[File]) -> Plan:
    """`restore.plan.plan` of files of one epoch."""
    return plan(LtxFile(file.low, file.high, file.level, 1) for file in files)


# -- records -----------------------------------------------------------------------------------


def swap_owner(world: World, config: Config, expected: int, value: Claim) -> World | None:
    """The world after a compare-and-swap of the owner; None where it is refused."""
    etag = world.owner.etag if world.owner is not None else 0
    if config.rules.swaps and etag != expected:
        return None
    # A record that is made anew has no version of the one that was lost.
    value = value._replace(etag=(etag or 10 * world.wounded) + 1)
    before, world = world.owner, world._replace(owner=value)
    went_on = before is not None and (before.epoch, before.state) == (value.epoch, "active")
    if value.state == "active" and not went_on:
        return _activated(world, value)
    if value.state == "released":
        return world._replace(handed=world.history if value.epoch == world.active else ())
    if value.state == "damaged" and not world.wounded:
        raise Broken(
            "damage", f"epoch {value.epoch} is damaged, though the bucket has lost nothing"
        )
    return world


def _activated(world: World, claim: Claim) -> World:
    begun = _begun(world, claim)
    missing = world.acked - set(begun)
    if missing and not world.lied:
        raise Broken(
            "durable", f"epoch {claim.epoch} is active without acknowledged {set(missing)}"
        )
    return world._replace(active=claim.epoch, begun=begun, history=begun, handed=())


def _begun(world: World, claim: Claim) -> Rows:
    for node in world.nodes:
        if node.number == claim.node:
            return node.rows
    for file in world.files:
        if file.epoch == claim.epoch and file.low == 1:
            return file.rows[0]
    raise Broken("base", f"epoch {claim.epoch} is active, and nobody has what it began with")


def swap_lease(
    world: World, config: Config, host: int, expected: int, value: Lease
) -> World | None:
    """The world after a compare-and-swap of a lease; None where it is refused."""
    now = world.leases[host]
    etag = now.etag if now is not None else 0
    if config.rules.swaps and etag != expected:
        return None
    leases = list(world.leases)
    leases[host] = value._replace(etag=etag + 1)
    return world._replace(leases=tuple(leases))


# -- files -------------------------------------------------------------------------------------


def put(world: World, file: File) -> World:
    """The world after an upload. Nobody may ever upload another content under the same name."""
    for there in world.files:
        if there[:4] == file[:4] and there.rows != file.rows:
            raise Broken(
                "prefix",
                f"{file.low}-{file.high} of epoch {file.epoch} was {there.rows}, now {file.rows}",
            )
    return world._replace(files=world.files | {file})


def files_of(world: World, epoch: int) -> frozenset[File]:
    """All files in an epoch's prefix."""
    return frozenset(file for file in world.files if file.epoch == epoch)


def rows_of(files: Iterable[File], reachable: int) -> Rows:
    """The log that transactions 1 to ``reachable`` lead to."""
    by_txid: dict[int, Rows] = {}
    for file in files:
        for offset, rows in enumerate(file.rows):
            by_txid[file.low + offset] = rows
    return tuple(row for txid in range(1, reachable + 1) for row in by_txid[txid])


def landed(world: World, config: Config, write: Write) -> tuple[World, bool]:
    """The world after a write in flight has arrived, and whether it was let through."""
    world = world._replace(flights=world.flights - {write})
    if write.kind == "file":
        return put(world, write.value), True
    if write.kind == "owner":
        after = swap_owner(world, config, write.expected, write.value)
    else:
        after = swap_lease(world, config, write.key, write.expected, write.value)
    return (world, False) if after is None else (after, True)
