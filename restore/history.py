"""What a tenant's history in the bucket holds: its epochs, and the moments that can be restored."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from backup import keys, lineage, ltx, records
from backup.lineage import EpochRecord
from backup.ownership import OwnerRecord, OwnerState
from backup.store import ObjectStore
from restore.errors import Damaged, RestoreFailed
from restore.plan import LtxFile, list_epoch


@dataclass(frozen=True, slots=True)
class Span:
    """One epoch's part of a tenant's history.

    ``last_txid`` is the position at which its child took over, None for the newest epoch; what
    lies beyond it in the epoch's prefix was never the tenant's. ``floor_txid`` was proven to be
    there.
    """

    epoch: int
    began_at: float
    last_txid: int | None
    floor_txid: int = 0


@dataclass(frozen=True, slots=True)
class History:
    """A tenant's history, newest epoch first. ``complete`` is false where its beginning is not
    recorded. ``removed`` are epochs of it whose data was removed, or is being removed."""

    owner: OwnerRecord
    spans: tuple[Span, ...]
    complete: bool
    removed: tuple[int, ...] = ()

    def span(self, epoch: int) -> Span:
        """Raises `RestoreFailed` where that epoch is not part of the history."""
        for span in self.spans:
            if span.epoch == epoch:
                return span
        if epoch in self.removed:
            raise RestoreFailed(
                f"the data of epoch {epoch} of {self.owner.tenant} was removed after its retention "
                f"period; the oldest that is left is epoch {self.spans[-1].epoch}"
            )
        raise RestoreFailed(
            f"epoch {epoch} is not part of {self.owner.tenant}'s history: that has "
            f"{', '.join(str(span.epoch) for span in self.spans)}"
        )

    def span_at(self, at: float) -> Span:
        """The epoch that was the tenant's at unix time ``at``.

        Raises:
            RestoreFailed: the history does not reach back so far.
        """
        for span in self.spans:
            if span.began_at <= at:
                return span
        why = "; what was before it was removed after its retention period" if self.removed else ""
        raise RestoreFailed(
            f"{self.owner.tenant}'s history does not reach back so far: its oldest epoch here is "
            f"{self.spans[-1].epoch}{why}"
        )


def read_history(store: ObjectStore, tenant: str) -> History:
    """Read a tenant's ownership record and the records of its epochs.

    Raises:
        RestoreFailed: it has no state yet.
        StoreError: something could not be read.
    """
    found = records.read(store, keys.owner(tenant), OwnerRecord)
    if found is None:
        raise RestoreFailed(f"{tenant} was never started: it has no ownership record")
    owner = found.record
    newest = lineage.newest_epoch(owner)
    if newest is None:
        raise RestoreFailed(f"{tenant} never became active: there is nothing to restore")
    return history(owner, newest, lineage.read(store, owner))


def history(owner: OwnerRecord, newest: int, epochs: Sequence[EpochRecord]) -> History:
    """Put the records together. Without any, the newest epoch alone is known."""
    floor = owner.floor_txid if owner.state is not OwnerState.ACTIVE else 0
    if not epochs:
        return History(owner, (Span(newest, 0.0, None, floor),), complete=False)
    spans = [Span(epochs[0].epoch, epochs[0].began_at, None, floor)]
    for child, parent in pairwise(epochs):
        spans.append(Span(parent.epoch, parent.began_at, child.parent_txid, child.parent_txid))
    gone = {one.epoch for one in epochs if one.purged_at is not None} | set(owner.purging)
    return History(
        owner,
        tuple(span for span in spans if span.epoch not in gone),
        complete=epochs[-1].parent is None,
        removed=tuple(span.epoch for span in spans if span.epoch in gone),
    )


class Reach:
    """What the bucket holds of one epoch's part of the history: the states that can be restored.

    Reads the times of states from their files' headers, one request for each that is asked for.
    """

    def __init__(self, store: ObjectStore, tenant: str, span: Span) -> None:
        """
        Raises:
            Damaged: nothing of it can be restored.
            StoreError: it could not be listed.
        """
        found = list_epoch(store, tenant, span.epoch)
        self.plan = found if span.last_txid is None else found.up_to(span.last_txid)
        self.positions = self.plan.positions
        """Every state that can be restored exactly, oldest first."""
        self.missing = self.plan.missing(span.floor_txid)
        """What is missing after the newest of them; None if nothing is."""
        if not self.positions:
            raise Damaged(f"epoch {span.epoch} of {tenant} cannot be restored: {self.missing}")
        self._store = store
        self._prefix = keys.epoch(tenant, span.epoch)
        self._smallest: dict[int, LtxFile] = {}
        for file in self.plan.files:
            if file.high not in self._smallest or file.size < self._smallest[file.high].size:
                self._smallest[file.high] = file
        self._times: dict[int, float] = {}

    def time(self, txid: int) -> float:
        """When the state at a position was taken, in unix seconds.

        Raises:
            Damaged: the file that ends there is none.
            StoreError: it could not be read.
        """
        if txid not in self._times:
            key = self._prefix + self._smallest[txid].name
            try:
                self._times[txid] = ltx.parse(self._store.get_part(key, 0, ltx.HEADER_SIZE)).at
            except ltx.LtxDamaged as error:
                raise Damaged(f"{key} is damaged: {error}") from error
        return self._times[txid]

    def split(self, at: float) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The states that were taken at or before unix time ``at``, and those after it.

        Found by halving, so a host whose clock was set back may put some on the wrong side.
        """
        place = bisect_right(self.positions, at, key=self.time)
        return self.positions[:place], self.positions[place:]
