"""Which epochs of a tenant may go: decided from records alone, before anything is touched.

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
