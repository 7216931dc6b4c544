"""What can be restored from an epoch's prefix: decided from a list, before anything is fetched.

Litestream restores across a gap in silence, with older data; so contiguity is checked here. A list
of the bucket is not atomic and compaction moves files upward meanwhile, so levels are listed from 0
to 9 in that order and merged: a file that moves up during the listing is seen at one of its places.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from backup import keys
from backup.store import Entry, ObjectStore

LEVELS = range(10)
SNAPSHOT_LEVEL = 9

_LTX = re.compile(r"(?P<level>\d{4})/(?P<low>[0-9a-f]{16})-(?P<high>[0-9a-f]{16})\.ltx")


@dataclass(frozen=True, slots=True, order=True)
class LtxFile:
    """A run of transactions, ``low`` to ``high`` inclusive, in one object of ``size`` bytes."""

    low: int
    high: int
    level: int
    size: int

    @property
    def name(self) -> str:
        """The object's key under its epoch's prefix."""
        return f"{self.level:04d}/{self.low:016x}-{self.high:016x}.ltx"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a prefix holds.

    ``reachable`` is the newest position that an unbroken chain from 1 leads to, ``highest`` the
    newest one of which any file is there: where they differ, something is missing between them.
    """

    files: tuple[LtxFile, ...]
    reachable: int
    highest: int

    @property
    def gapped(self) -> bool:
        return self.reachable < self.highest

    @property
    def empty(self) -> bool:
        return not self.files

    @property
    def bytes(self) -> int:
        """Size of all files together."""
        return sum(file.size for file in self.files)

    def up_to(self, txid: int) -> Plan:
        """What leads to ``txid`` at most: without the files that go beyond it."""
        return plan(file for file in self.files if file.high <= txid)

    @property
    def chain(self) -> tuple[LtxFile, ...]:
        """The files that lead to ``reachable``: the newest snapshot and what follows on it, the
        longest run first. Litestream chooses for itself; this tells what it has to fetch."""
        snapshots = [f for f in self.files if f.level == SNAPSHOT_LEVEL and f.low == 1]
        found = [max(snapshots, key=lambda file: file.high)] if snapshots else []
        at = found[0].high if found else 0
        while at < self.reachable:
            following = [f for f in self.files if f.low <= at + 1 and f.high > at]
            found.append(max(following, key=lambda file: (file.high, file.level)))
            at = found[-1].high
        return tuple(found)

    @property
    def positions(self) -> tuple[int, ...]:
        """Every position that can be restored exactly, oldest first."""
        ends, reached, at = sorted({file.high for file in self.files}), [], 0
        by_end: dict[int, int] = {}
        for file in self.files:
            by_end[file.high] = min(file.low, by_end.get(file.high, file.low))
        # A file's end can be restored when what is before it can, without any longer file.
        for end in ends:
            if by_end[end] <= at + 1:
                at = end
                reached.append(end)
        return tuple(reached)

    def missing(self, floor: int) -> str | None:
        """Why this plan does not lead to ``floor`` and to all that is there; None if it does."""
        if self.empty:
            return "there is nothing in its prefix"
        if self.gapped:
            return f"transaction {self.reachable + 1} is missing, though {self.highest} is there"
        if self.reachable < floor:
            return f"it ends at transaction {self.reachable}, but {floor} was proven to be there"
        return None


def parse(prefix: str, entries: Iterable[Entry]) -> list[LtxFile]:
    """The LTX files among ``entries`` of an epoch's prefix; anything else there is passed over."""
    files = []
    for entry in entries:
        match = _LTX.fullmatch(entry.key.removeprefix(prefix))
        if match:
            low, high = int(match["low"], 16), int(match["high"], 16)
            files.append(LtxFile(low, high, int(match["level"]), entry.size))
    return files


def plan(files: Iterable[LtxFile]) -> Plan:
    """Merge the files of all levels and follow the chain from the first transaction."""
    ordered = sorted(set(files))
    reachable = 0
    for file in ordered:
        # Sorted by low: once a file begins beyond the chain's end, no later one can mend it.
        if file.low > reachable + 1:
            break
        reachable = max(reachable, file.high)
    highest = max((file.high for file in ordered), default=0)
    return Plan(tuple(ordered), reachable, highest)


def base_is_there(store: ObjectStore, tenant: str, epoch: int) -> bool:
    """Whether the first transaction of a fresh epoch is in the bucket.

    One list in place of ten: a fresh epoch's base is uploaded to level 0, and compaction, which
    moves files up, leaves it there for minutes.
    """
    prefix = keys.epoch(tenant, epoch)
    return plan(parse(prefix, store.list(f"{prefix}{0:04d}/"))).reachable > 0


def list_epoch(store: ObjectStore, tenant: str, epoch: int) -> Plan:
    """List an epoch's prefix, level by level in the protocol's order, and plan it.

    Raises:
        StoreError: the list could not be read to its end.
    """
    prefix = keys.epoch(tenant, epoch)
    files: list[LtxFile] = []
    for level in LEVELS:
        files += parse(prefix, store.list(f"{prefix}{level:04d}/"))
    return plan(files)
