"""What a fleet's records must be, judged by all else that the bucket holds: pure.

A tenant's wanted state (``tenant.json``) can be had from the copy of the catalog that coordinators
keep, or in part from its newest epoch's record. Its owner (``owner.json``) can be had from its
epochs: which there are, and which of them became active.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from backup.lineage import EpochRecord
from backup.ownership import Deletion, OwnerRecord, OwnerState, Parent, TenantRecord, Tomb
from backup.receipts import Receipt
from backup.records import Versioned
from restore.plan import Plan

State = Literal["whole", "missing", "doubtful", "lost"]


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the bucket holds of a tenant, but for the data itself.

    ``unreadable`` maps ``wanted`` and ``owner`` to the ETag of a record that is there and cannot be
    read. ``copy`` is the tenant in the copy of the catalog. ``epochs`` are the numbers that have a
    prefix, ``lineage`` those that became active, and ``newest`` is what the prefix of the newest of
    these holds. ``running`` are hosts whose lease lives and names the tenant. ``given`` is the
    application that somebody says it shall run. With ``bare`` it needs no wanted state.
    ``receipts`` are those of tenants that had the name and were deleted, oldest first.
    """

    tenant: str
    wanted: Versioned[TenantRecord] | None = None
    owner: Versioned[OwnerRecord] | None = None
    unreadable: Mapping[str, str] = field(default_factory=dict)
    copy: TenantRecord | None = None
    epochs: tuple[int, ...] = ()
    lineage: Mapping[int, EpochRecord] = field(default_factory=dict)
    newest: Plan | None = None
    running: tuple[str, ...] = ()
    given: str | None = None
    bare: bool = False
    receipts: tuple[Receipt, ...] = ()

    @property
    def gone(self) -> Receipt | None:
        """The receipt of the name's last tenant, if all of that was removed and nothing came after
        it."""
        last = self.receipts[-1] if self.receipts else None
        ended = last is not None and last.purged_at is not None
        return last if ended and not self.epochs and not self.lineage else None


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of a tenant's records, and what shall be written.

    ``whole``: nothing. ``missing``: what is not there can be made anew. ``doubtful``: so it can,
    but somebody should look first; ``doubts`` say at what. ``lost``: it cannot.
    """

    tenant: str
    state: State
    found: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    wanted: TenantRecord | None = None
    wanted_over: str | None = None
    owner: OwnerRecord | None = None
    owner_over: str | None = None


def judge(facts: Facts) -> Finding:
    """What shall be done about one tenant. A record that is there is written over only if the
    bucket proves that it is older than what is known."""
    notes = _Notes()
    wanted = None if facts.bare else _wanted(facts, notes)
    owner = _owner(facts, notes)
    if facts.running and owner is not None:
        notes.doubts.append(
            f"{', '.join(facts.running)} may run it, and will stop it when its owner is written"
        )
    changed = wanted is not None or owner is not None
    state: State = "whole"
    if notes.lost:
        state = "lost"
    elif changed:
        state = "doubtful" if notes.doubts else "missing"
    return Finding(
        tenant=facts.tenant,
        state=state,
        found=tuple(notes.found),
        doubts=tuple(notes.doubts),
        wanted=wanted if not notes.lost else None,
        wanted_over=facts.wanted.etag if facts.wanted else facts.unreadable.get("wanted"),
        owner=owner if not notes.lost else None,
        owner_over=facts.owner.etag if facts.owner else facts.unreadable.get("owner"),
    )


@dataclass(slots=True)
class _Notes:
    found: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    lost: bool = False


def _wanted(facts: Facts, notes: _Notes) -> TenantRecord | None:
    """The wanted state to write, None where it is right as it is or cannot be had."""
    copy = facts.copy
    if facts.wanted is not None:
        record = facts.wanted.record
        if copy is None or copy.rev <= record.rev:
            return None
        notes.found.append(f"its wanted state is of revision {record.rev}, the copy of {copy.rev}")
        return copy.model_copy(update=copy.succeeded_by())
    broken = "cannot be read" if "wanted" in facts.unreadable else "is not there"
    notes.found.append(f"its wanted state {broken}")
    if copy is not None:
        if not facts.epochs and facts.owner is None and not copy.gone:
            notes.doubts.append("nothing else of it is in the bucket: it would begin empty")
        return copy.model_copy(update=copy.succeeded_by())
    if facts.gone is not None:
        notes.found.append(f"deletion {facts.gone.number} has removed all of it")
        return _stub(facts.gone)
    newest = _newest(facts)
    app = facts.given or (newest.app if newest is not None else "")
    if not app:
        notes.lost = True
        notes.found.append("what it shall run is not known: name it with --app")
        return None
    if facts.given is None:
        notes.doubts.append(f"it ran {app} when its newest epoch began, and may have had others")
    notes.doubts.append("its environment, and whether it sleeps, are not known")
    return TenantRecord(
        tenant=facts.tenant,
        app=app,
        durability=newest.durability if newest is not None else "before_effects",
        created_at=newest.began_at if newest is not None else 0.0,
    )


def _owner(facts: Facts, notes: _Notes) -> OwnerRecord | None:
    """The owner's record to write, None where it is right as it is or there was none."""
    newest = _newest(facts)
    if facts.owner is not None:
        record = facts.owner.record
        if newest is None or newest.epoch <= record.epoch or record.state is OwnerState.DELETED:
            return None
        notes.found.append(f"its owner is of epoch {record.epoch}, but {newest.epoch} was active")
    elif not facts.epochs and not facts.lineage:
        if facts.gone is not None:
            broken = "cannot be read" if "owner" in facts.unreadable else "is not there"
            notes.found.append(f"its owner {broken}; deletion {facts.gone.number} has removed it")
            return _erased(facts.gone)
        if "owner" in facts.unreadable:
            notes.lost = True
            notes.found.append("its owner cannot be read, and there is no epoch to tell it")
        return None  # it was never started
    else:
        broken = "cannot be read" if "owner" in facts.unreadable else "is not there"
        notes.found.append(f"its owner {broken}")
    if newest is None:
        notes.lost = True
        notes.found.append("no epoch is on record as having been active")
        return None
    return _remade(facts, newest, notes)


def _remade(facts: Facts, newest: EpochRecord, notes: _Notes) -> OwnerRecord:
    reaches = facts.newest.reachable if facts.newest is not None else 0
    problem = facts.newest.missing(0) if facts.newest is not None else "it was not listed"
    if problem is not None:
        notes.doubts.append(f"epoch {newest.epoch}: {problem}")
    notes.found.append(f"epoch {newest.epoch} was the newest that was active, up to txid {reaches}")
    before = facts.owner.record if facts.owner is not None else None
    known = facts.wanted.record if facts.wanted is not None else facts.copy
    restored = known.restore.number if known is not None and known.restore is not None else 0
    if known is not None and known.deletion is not None:
        notes.doubts.append("it was deleted, or was being")
    return OwnerRecord(
        rev=before.rev + 1 if before is not None else 1,
        tenant=facts.tenant,
        lineage=newest.lineage,
        # Somebody may have claimed the next one and not have written to it yet: it is never used.
        epoch=max((*facts.epochs, *facts.lineage, *(one.epoch for one in facts.receipts))) + 1,
        deletion=max((one.number for one in facts.receipts), default=0),
        host="",
        incarnation="",
        state=OwnerState.RESTORING,
        parent=Parent(epoch=newest.epoch),
        floor_txid=reaches,
        # Whether it was on hold is not known; nothing is removed until somebody says so.
        hold=True,
        restored=restored,
    )


def _stub(gone: Receipt) -> TenantRecord:
    """The catalog's entry of a tenant that was removed."""
    told = gone.model_dump(include=set(Deletion.model_fields))
    return TenantRecord(tenant=gone.tenant, app="", deletion=Deletion(**told))


def _erased(gone: Receipt) -> OwnerRecord:
    """The owner of a tenant that was removed: so that its epochs are never used again."""
    return OwnerRecord(
        tenant=gone.tenant,
        lineage=gone.lineage,
        epoch=gone.epoch,
        host="",
        incarnation="",
        state=OwnerState.DELETED,
        deletion=gone.number,
        tomb=Tomb(state=OwnerState.RELEASED, erasing=True, erased=True),
    )


def _newest(facts: Facts) -> EpochRecord | None:
    return facts.lineage[max(facts.lineage)] if facts.lineage else None
