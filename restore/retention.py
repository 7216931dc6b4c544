"""Which epochs of a tenant may go, and which files of its nodes on hosts: decided from records
alone, before anything is touched.

An epoch is a chain of its own: it begins with a whole copy of what it was made of. So an epoch may
go once a later one was the tenant's and has been restored in a drill, and nobody can want it any
more. What is never left without: the newest state, the newest chain that was proven to restore, and
whatever is newer than that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from backup import ownership
from backup.lineage import EpochRecord, newest_epoch
from backup.ownership import OwnerRecord, OwnerState
from restore.drill import Drill


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one epoch. ``reason`` says why it stays, or why it may go."""

    epoch: int
    goes: bool
    reason: str


def judge_epochs(
    owner: OwnerRecord,
    history: Sequence[EpochRecord],
    present: Iterable[int],
    drills: Iterable[Drill],
    wanted: frozenset[int],
    now: float,
    period: float,
) -> list[Verdict]:
    """Say of each epoch that is in the bucket whether its data may go, oldest first.

    Args:
        history: the tenant's epochs by their records, newest first.
        present: the epochs under whose prefixes there is anything.
        wanted: epochs that a restore or a fork which was ordered is going to read.
        now: unix seconds.
        period: seconds for which an epoch stays after its successor began.
    """
    began = {one.epoch: one.began_at for one in history}
    verified = _verified(owner, began, drills)
    return [
        Verdict(epoch, *_judge(epoch, owner, began, verified, wanted, now, period))
        for epoch in sorted(present)
    ]


def _verified(owner: OwnerRecord, began: dict[int, float], drills: Iterable[Drill]) -> int:
    """The newest epoch that was the tenant's and was restored in a drill; 0 for none."""
    good = (
        drill.epoch
        for drill in drills
        # A drill from before that epoch began was one of something else.
        if drill.ok
        and drill.lineage == owner.lineage
        and drill.epoch in began
        and drill.began_at >= began[drill.epoch]
    )
    return max(good, default=0)


def _judge(
    epoch: int,
    owner: OwnerRecord,
    began: dict[int, float],
    verified: int,
    wanted: frozenset[int],
    now: float,
    period: float,
) -> tuple[bool, str]:
    if owner.state is OwnerState.DELETED:
        return False, "the tenant is deleted; its data goes with it"
    if epoch in owner.purging:
        return True, "it was marked"
    if owner.hold:
        return False, "the tenant is on hold"
    if owner.state is OwnerState.DAMAGED:
        return False, "the tenant is damaged"
    newest = newest_epoch(owner)
    if newest is None or epoch >= newest:
        return False, "it is the newest"
    if epoch in ownership.needed(owner) | wanted:
        return False, "a restore reads it"
    if epoch == verified:
        return False, "it is the newest that was restored in a drill"
    if epoch > verified:
        return False, "none after it was restored in a drill"
    left = min((at for number, at in began.items() if number > epoch), default=None)
    if left is None:
        return False, "nothing is recorded of what came after it"
    if now - left <= period:
        return False, f"it stays for {(period - (now - left)) / 86_400:.1f} more days"
    return True, f"epoch {verified} was restored in a drill, and its retention period is over"


def judge_remains(
    epoch: int,
    empty: bool,
    age: float,
    owner: OwnerRecord | None,
    history: Sequence[EpochRecord],
    drills: Iterable[Drill],
    gone_up_to: int,
    period: float,
) -> tuple[bool, str]:
    """Say whether files that a node has left on a host may go, and why.

    They may hold commits that the bucket never saw. So they stay while the tenant may still go on
    from them (its newest epoch), and until a later epoch is known to restore: before that they may
    be the best copy that there is.

    Args:
        epoch: the node's; 0 where that is not known.
        empty: there is no log among them.
        age: seconds since they were put away.
        owner: the tenant's record, None for none.
        history: the tenant's epochs by their records, newest first.
        gone_up_to: the last epoch of the tenants of this name that were deleted and are gone; 0 for
            none.
        period: seconds for which they stay.
    """
    if epoch and epoch <= gone_up_to:
        return True, "its tenant was deleted, and is gone"
    if age <= period:
        return False, f"it stays for {(period - age) / 86_400:.1f} more days"
    if empty:
        return True, "there is no log in it"
    if not epoch:
        return False, "nothing tells of which epoch it is"
    if owner is None:
        return False, "its tenant has no record"
    if owner.hold:
        return False, "the tenant is on hold"
    if owner.state in (OwnerState.DAMAGED, OwnerState.DELETED):
        return False, f"the tenant is {owner.state}"
    newest = newest_epoch(owner)
    if newest is None or epoch >= newest:
        return False, "the tenant may go on from it"
    verified = _verified(owner, {one.epoch: one.began_at for one in history}, drills)
    if verified <= epoch:
        return False, "no later epoch was restored in a drill"
    return True, f"epoch {verified} was restored in a drill, and its time is over"
