"""The end of a tenant in ``owner.json``: buried, brought back, or erased.

Pure, as `backup.ownership`, and by the same compare-and-swap: the record decides whether a tenant
that was deleted can still be brought back, not the tombstone in ``tenant.json``, which only says
what is wanted. Each deletion has a number and is carried out once, so that whoever acts on what was
seen before cannot bury a tenant that was brought back.
"""

from __future__ import annotations

from backup.ownership import (
    Deletion,
    NotAllowed,
    Owner,
    OwnerRecord,
    OwnerState,
    TenantRecord,
    Tomb,
    claim,
    refuse_if_serving,
    succeeding,
)

NOBODY = Owner(host="", incarnation="")


def deletion_wanted(wanted: TenantRecord, now: OwnerRecord | None) -> Deletion | None:
    """The deletion that the tenant was told of and that was neither carried out nor taken back."""
    settled = now.deletion if now is not None else 0
    deletion = wanted.deletion
    return deletion if deletion and not wanted.gone and deletion.number > settled else None


def is_buried(now: OwnerRecord | None) -> bool:
    """Whether the tenant is deleted, and its name not free yet."""
    return now is not None and now.tomb is not None and not now.tomb.erased


def may_begin(wanted: TenantRecord, now: OwnerRecord | None) -> bool:
    """Whether the tenant is to begin as a new one: it was never owned, or its name was free when it
    was created.

    A record of the catalog that was read before its tenant was removed says nothing about who has
    the name now.
    """
    if now is None:
        return True
    return now.tomb is not None and now.tomb.erased and wanted.follows == now.deletion


def bury(
    now: OwnerRecord | None, tenant: str, number: int, *, authority_ended: bool
) -> OwnerRecord:
    """Take a tenant from whoever has it, for nobody: an epoch of its own, ``deleted``.

    It is claimed like a take-over's, so that an owner, whoever that is, meets another epoch at its
    next look at the record, and so that the tenant can be brought back as if the take-over of its
    last owner had not been begun.

    Args:
        authority_ended: as for `claim`.

    Raises:
        NotAllowed: the present owner may still be serving, or that deletion was settled before.
    """
    if is_buried(now):
        raise NotAllowed(f"{tenant} is deleted")
    if now is not None and number <= now.deletion:
        raise NotAllowed(f"deletion {number} of {tenant} was carried out or taken back before")
    if now is None or now.state is OwnerState.DELETED:
        before = claim(now, tenant, NOBODY, authority_ended=True)
        state, reason = OwnerState.RESTORING, ""
    else:
        refuse_if_serving(now, authority_ended)
        before, state, reason = succeeding(now, NOBODY), now.state, now.reason
    return before.model_copy(
        update={
            "state": OwnerState.DELETED,
            "deletion": number,
            "tomb": Tomb(state=state, reason=reason),
        }
    )


def unbury(now: OwnerRecord | None, tenant: str, number: int) -> OwnerRecord:
    """Bring a tenant back, or take its deletion back before it was carried out.

    It is what it was: damaged, or ``restoring`` by nobody, for anyone to claim.

    Raises:
        NotAllowed: its data is being removed, or is gone.
    """
    if now is None:
        # From here on nobody buries it for this deletion, whatever was seen before.
        now = claim(None, tenant, NOBODY, authority_ended=True)
        return now.model_copy(update={"deletion": number})
    if now.deletion > number or (now.deletion == number and now.tomb is None):
        return now
    if now.tomb is None or now.deletion < number:
        return now.model_copy(update=now.succeeded_by(deletion=number))
    if now.tomb.erasing:
        raise NotAllowed(f"{tenant} is being purged; it is too late to bring it back")
    damaged = now.tomb.state is OwnerState.DAMAGED
    return now.model_copy(
        update=now.succeeded_by(
            state=OwnerState.DAMAGED if damaged else OwnerState.RESTORING,
            reason=now.tomb.reason if damaged else "",
            tomb=None,
        )
    )


def _buried(now: OwnerRecord, number: int) -> Tomb:
    if now.tomb is None or now.tomb.erased or now.deletion != number:
        raise NotAllowed(f"{now.tenant} is {now.state}, not buried by deletion {number}")
    return now.tomb


def begin_erasing(now: OwnerRecord, number: int) -> OwnerRecord:
    """Mark that a buried tenant's data is being removed, before the first of it is.

    Raises:
        NotAllowed: it is on hold, or not buried by this deletion (any more).
    """
    tomb = _buried(now, number)
    if tomb.erasing:
        return now
    if now.hold:
        raise NotAllowed(f"{now.tenant} is on hold; nothing of it is removed")
    erasing = tomb.model_copy(update={"erasing": True})
    return now.model_copy(update=now.succeeded_by(tomb=erasing))


def end_erasing(now: OwnerRecord, number: int) -> OwnerRecord:
    """Nothing of the tenant is left but this record: it keeps the epoch, so that whoever is created
    under the name begins with one that was never used.

    Raises:
        NotAllowed: its removal was not begun for this deletion.
    """
    tomb = _buried(now, number)
    if not tomb.erasing:
        raise NotAllowed(f"{now.tenant} is buried, and its removal was not begun")
    return now.model_copy(
        update=now.succeeded_by(
            tomb=tomb.model_copy(update={"erased": True}),
            genesis=False,
            parent=None,
            floor_txid=0,
            next_wake=None,
            hold=False,
            content_failures=0,
            reason="",
            origin=None,
            restored=0,
            restore_failure="",
            purging=(),
        )
    )
