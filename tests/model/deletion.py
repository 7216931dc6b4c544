"""Deleting: buried, brought back, removed file by file; and the name used again.

The transitions are the real ones (`backup.burial`). The coordinator deletes whenever the rules let
it, so that whatever somebody wants is among its steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from backup import burial
from backup.ownership import NotAllowed
from tests.model.bucket import as_claim, as_record, swap_owner
from tests.model.coordinator import ended
from tests.model.search import Broken
from tests.model.world import Claim, Config, World, nodes_of, spend

Steps = Iterator[tuple[str, World]]


@cache
def buried(now: Claim, over: bool) -> Claim | None:
    """`burial.bury`; None where it is not allowed."""
    try:
        record = burial.bury(as_record(now), "t", now.deletion + 1, authority_ended=over)
    except NotAllowed:
        return None
    return as_claim(record, now.etag)


@cache
def brought_back(now: Claim) -> Claim | None:
    """`burial.unbury`; None where it is not allowed."""
    try:
        return as_claim(burial.unbury(as_record(now), "t", now.deletion), now.etag)
    except NotAllowed:
        return None


@cache
def marked(now: Claim) -> Claim:
    """`burial.begin_erasing`."""
    return as_claim(burial.begin_erasing(as_record(now), now.deletion), now.etag)


@cache
def erased(now: Claim) -> Claim:
    """`burial.end_erasing`."""
    return as_claim(burial.end_erasing(as_record(now), now.deletion), now.etag)


def deletion_steps(world: World, config: Config) -> Steps:
    """All that deletions can do next."""
    now, rules = world.owner, config.rules
    if world.stalled:
        yield "wake", _awoken(world, config)
    if now is None:
        return
    if now.state != "deleted":
        if world.budget.burials:
            over = ended(world, config, now) if now.machine >= 0 else True
            wanted = buried(now, over or not rules.bury_as_a_claim)
            if wanted is not None:
                if not rules.buried_is_a_parent:
                    wanted = wanted._replace(epoch=now.epoch, parent=now.parent)
                yield "bury", _swapped(spend(world, "burials"), config, wanted)
        return
    assert now.tomb is not None
    if now.tomb.erased:
        return
    back = brought_back(now)
    if back is not None:
        yield "bring-back", _swapped(world, config, back)
    if not world.budget.erasures:
        return
    removes = now.tomb.erasing or (world.removing and not rules.mark_before_removal)
    if not removes:
        if not _nobody_writes(world, config) and rules.wait_for_writers:
            return
        if rules.mark_before_removal:
            after = _swapped(world, config, marked(now))
            yield "mark", _written_off(after, now.epoch)
        else:
            yield "mark", world._replace(removing=True)
        return
    yield from _removing(world, config, now)


def _removing(world: World, config: Config, now: Claim) -> Steps:
    there = sorted(file for file in world.files if file.epoch <= now.epoch)
    if there:
        # Files go in any order, since batches do; the first of each epoch matters most.
        for file in {there[0], there[-1]}:
            yield f"remove {file.epoch}", world._replace(files=world.files - {file})
    elif now.tomb is not None and now.tomb.erasing:
        after = spend(_swapped(world, config, erased(now)), "erasures")
        yield "erase", after._replace(removing=False)
    if world.budget.stalls and now.tomb is not None and now.tomb.erasing:
        # It has read the mark, and is stopped before it lists.
        yield "stall", spend(world, "stalls")._replace(stalled=now.epoch)


def _awoken(world: World, config: Config) -> World:
    """Whoever was stopped between the mark and the list removes what it finds now."""
    upto = world.stalled if config.rules.remove_only_the_past else 99
    left = frozenset(file for file in world.files if file.epoch > upto)
    return _whole(world._replace(files=left, stalled=0))


def _whole(world: World) -> World:
    """Nobody else's files may have gone."""
    now = world.owner
    if now is None or now.state in ("deleted", "restoring", "damaged"):
        return world
    if not any(file.epoch == now.epoch and file.low == 1 for file in world.files):
        raise Broken("neighbour", f"epoch {now.epoch} of the name's next tenant was removed")
    return world


def _swapped(world: World, config: Config, wanted: Claim) -> World:
    assert world.owner is not None
    after = swap_owner(world, config, world.owner.etag, wanted)
    assert after is not None
    return after


def _written_off(world: World, epoch: int) -> World:
    """From here on nothing up to that epoch is owed to anybody."""
    return world._replace(
        acked=frozenset(), active=0, begun=(), history=(), handed=(), written_off=epoch
    )


def _nobody_writes(world: World, config: Config) -> bool:
    """`writers`: each living host says that it has no node; a silent one's lease has ended."""
    for host, lease in enumerate(world.leases):
        if lease is None or lease.fenced:
            continue
        agents = [
            (index, machine)
            for index, machine in enumerate(world.machines)
            if config.leases[index] == host and machine.incarnation == lease.incarnation
        ]
        answering = [index for index, one in agents if one.left > 0 and not one.paused]
        if not answering or any(nodes_of(world, index) for index in answering):
            return False
    return True


def nothing_is_left(world: World, config: Config, name: str) -> None:
    """Once all is removed nothing may come. Where nobody knows the time, or what was sent before
    may still arrive, it is looked at again (`erase.sweep`)."""
    now = world.owner
    if not config.clocks or config.budget.late_files or now is None or now.tomb is None:
        return
    if now.tomb.erased and any(file.epoch <= now.epoch for file in world.files):
        raise Broken("gone", f"something of it came back with {name}")
