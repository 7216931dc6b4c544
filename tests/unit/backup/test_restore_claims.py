"""Going back to a past state, as owner.json sees it: each rule with the loss that it prevents."""

from __future__ import annotations

import pytest

from backup import ownership
from backup.ownership import (
    NotAllowed,
    Origin,
    Owner,
    OwnerRecord,
    OwnerState,
    Parent,
    TenantRecord,
    restore_wanted,
)

A = Owner(host="a", incarnation="la.n1")
B = Owner(host="b", incarnation="lb.n1")


def origin(number: int = 1, epoch: int = 1, txid: int = 7, tenant: str = "t") -> Origin:
    return Origin(tenant=tenant, lineage="l", epoch=epoch, txid=txid, sequence=5, number=number)


def active(owner: Owner = A) -> OwnerRecord:
    return ownership.activate(ownership.claim(None, "t", owner, authority_ended=True), owner, 1)


def released(floor: int = 42) -> OwnerRecord:
    return ownership.release(ownership.drain(active(), A, 1), A, 1, floor, None)


def damaged() -> OwnerRecord:
    claimed = ownership.claim(active(), "t", B, authority_ended=True)
    return ownership.damage(claimed, B, 2, "transaction 9 is missing")


def restoring(now: OwnerRecord | None = None, number: int = 1) -> OwnerRecord:
    return ownership.claim(
        now or released(), "t", B, authority_ended=True, origin=origin(number=number)
    )


def test_a_restore_begins_a_new_epoch_and_keeps_what_it_leaves_as_its_parent() -> None:
    record = restoring()
    assert (record.epoch, record.parent, record.floor_txid) == (2, Parent(epoch=1), 42)
    assert record.origin == origin()
    assert record.restored == 1
    assert not record.genesis


@pytest.mark.parametrize(
    "now",
    [
        active(),
        ownership.drain(active(), A, 1),
        ownership.claim(active(), "t", A, authority_ended=True),
    ],
)
def test_only_a_tenant_with_all_of_its_newest_state_in_the_bucket_is_left(now: OwnerRecord) -> None:
    """Else an asynchronous tail would be lost that no undo can bring back."""
    with pytest.raises(NotAllowed, match="release it before"):
        restoring(now)


def test_a_restore_is_taken_up_once() -> None:
    """A coordinator that decides on what it saw before must not go back a second time."""
    record = ownership.activate(restoring(), B, 2)
    again = ownership.release(ownership.drain(record, B, 2), B, 2, 3, None)
    with pytest.raises(NotAllowed, match="taken up before"):
        restoring(again)
    assert restoring(again, number=2).restored == 2


def test_whoever_supersedes_a_restore_goes_on_with_it() -> None:
    """Without, the host's loss in the middle would be a silent return to the newest state."""
    given_up = ownership.give_up(restoring(), B, 2, reason="the disk is full")
    record = ownership.claim(given_up, "t", A, authority_ended=True)
    assert (record.epoch, record.origin, record.parent) == (3, origin(), Parent(epoch=1))


def test_the_claim_after_a_restore_goes_on_from_it() -> None:
    """Its origin is its own: kept, the next take-over would go back again."""
    record = ownership.claim(ownership.activate(restoring(), B, 2), "t", A, authority_ended=True)
    assert (record.epoch, record.origin, record.parent) == (3, None, Parent(epoch=2))
    assert record.restored == 1


def test_a_past_state_that_cannot_be_restored_does_not_damage_the_tenant() -> None:
    record = ownership.damage(restoring(), B, 2, "it is gone")
    assert (record.state, record.host, record.origin) == (OwnerState.RESTORING, "", None)
    assert record.restore_failure == "it is gone"
    after = ownership.claim(record, "t", A, authority_ended=True)
    assert (after.parent, after.floor_txid, after.origin) == (Parent(epoch=1), 42, None)
    assert after.restore_failure == "it is gone"


def test_failures_of_the_content_end_a_restore_too() -> None:
    record = restoring()
    for _ in range(ownership.MAX_CONTENT_FAILURES):
        record = ownership.give_up(record, B, record.epoch, content_failed=True, reason="bad")
        if record.origin is not None:
            record = ownership.claim(record, "t", B, authority_ended=True)
    assert (record.state, record.restore_failure) == (OwnerState.RESTORING, "bad")
    assert record.content_failures == 0


def test_a_restore_mends_a_damaged_tenant_or_leaves_it_as_it_was() -> None:
    with pytest.raises(NotAllowed, match="damaged"):
        ownership.claim(damaged(), "t", A, authority_ended=True)
    record = restoring(damaged())
    assert (record.epoch, record.parent, record.content_failures) == (3, Parent(epoch=1), 0)
    assert ownership.activate(record, B, 3).state is OwnerState.ACTIVE
    failed = ownership.damage(record, B, 3, "that too")
    assert (failed.state, failed.reason) == (OwnerState.DAMAGED, "transaction 9 is missing")
    assert failed.restore_failure == "that too"


def test_a_fork_that_cannot_be_restored_is_damaged_and_never_starts_empty() -> None:
    record = ownership.claim(None, "t", A, authority_ended=True, origin=origin(tenant="source"))
    assert (record.genesis, record.parent) == (False, None)
    after = ownership.claim(
        ownership.give_up(record, A, 1, reason="x"), "t", B, authority_ended=True
    )
    assert (after.genesis, after.origin) == (False, origin(tenant="source"))
    assert after.lineage == record.lineage
    assert ownership.damage(record, A, 1, "gone").state is OwnerState.DAMAGED


def test_what_is_wanted_is_pending_until_a_claim_takes_it_up() -> None:
    wanted = TenantRecord(tenant="t", app="a", restore=origin())
    assert restore_wanted(TenantRecord(tenant="t", app="a"), active()) is None
    assert restore_wanted(wanted, None) == origin()
    assert restore_wanted(wanted, active()) == origin()
    assert restore_wanted(wanted, restoring()) is None


def test_older_records_are_read() -> None:
    text = active().model_dump_json(exclude={"origin", "restored", "restore_failure"})
    record = OwnerRecord.model_validate_json(text)
    assert (record.origin, record.restored, record.restore_failure) == (None, 0, "")
