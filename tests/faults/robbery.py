"""The broken twin's bucket: a copy without the newer part of the chain, as if it had never been
there. A check that compares nothing with the ledger passes on it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from backup import keys
from backup.store import S3Store
from restore.plan import Plan, list_epoch, parse

KEPT = 0.4
"""How much of the chain is left, counted in transactions."""


def cut_of(plan: Plan, spoiled_at: int | None) -> int:
    """The position at which the twin's chain ends: one that can be restored, before what a fault
    has damaged. 0 if there is no such one."""
    most = min(plan.highest * KEPT, plan.highest - 1, (spoiled_at or plan.highest) - 1)
    positions = plan.positions
    below = [position for position in positions if position <= most]
    first = [position for position in positions[:1] if position < (spoiled_at or plan.highest)]
    return max(below, default=0) or max(first, default=0)


def robbed(source: S3Store, target: S3Store, epoch: int, spoiled_at: int | None) -> int:
    """Copy tenant ``t`` without all that is beyond the cut; the cut."""
    prefix = keys.epoch("t", epoch)
    cut = cut_of(list_epoch(source, "t", epoch), spoiled_at)

    def one(key: str) -> None:
        target.put(key, source.get(key).body)

    with ThreadPoolExecutor(8) as pool:
        wanted = []
        for entry in source.list(""):
            files = parse(prefix, [entry])
            if not files or files[0].high <= cut:
                wanted.append(entry.key)
        list(pool.map(one, wanted))
    return cut
