"""The transitions of owner.json, each rule with the loss that it prevents."""

from __future__ import annotations

import pytest

from backup import ownership
from backup.ownership import NotAllowed, Owner, OwnerRecord, OwnerState, Parent

A = Owner(host="a", incarnation="la.n1")
B = Owner(host="b", incarnation="lb.n1")
C = Owner(host="c", incarnation="lc.n1")


def genesis() -> OwnerRecord:
    return ownership.claim(None, "t", A, authority_ended=True)


def active(owner: Owner = A) -> OwnerRecord:
    return ownership.activate(ownership.claim(None, "t", owner, authority_ended=True), owner, 1)


def test_first_claim_is_genesis_without_parent() -> None:
    record = genesis()
    assert (record.epoch, record.genesis, record.parent) == (1, True, None)
    assert record.state is OwnerState.RESTORING


def test_claim_over_active_needs_the_end_of_its_authority() -> None:
    with pytest.raises(NotAllowed, match="not fenced"):
        ownership.claim(active(), "t", B, authority_ended=False)
    record = ownership.claim(active(), "t", B, authority_ended=True)
    assert (record.epoch, record.parent, record.genesis) == (2, Parent(epoch=1), False)


def test_claim_over_a_claim_that_never_became_active_copies_its_parent() -> None:
    second = ownership.claim(active(), "t", B, authority_ended=True)
    third = ownership.claim(second, "t", C, authority_ended=False)
    # Not Parent(2): epoch 2 has no data. Not further back either.
    assert (third.epoch, third.parent) == (3, Parent(epoch=1))


def test_genesis_that_never_became_active_stays_genesis() -> None:
    first = genesis()
    second = ownership.claim(first, "t", B, authority_ended=False)
    assert (second.epoch, second.genesis, second.parent) == (2, True, None)
    assert second.lineage == first.lineage


def test_after_one_active_epoch_nothing_is_genesis_again() -> None:
    third = ownership.claim(
        ownership.claim(active(), "t", B, authority_ended=True), "t", C, authority_ended=False
    )
    assert not third.genesis


def test_floor_of_a_release_is_kept_until_a_claim_becomes_active() -> None:
    draining = ownership.drain(active(), A, 1)
    released = ownership.release(draining, A, 1, floor_txid=42, next_wake=None)
    second = ownership.claim(released, "t", B, authority_ended=False)
    third = ownership.claim(second, "t", C, authority_ended=False)
    assert (second.floor_txid, third.floor_txid) == (42, 42)
    assert ownership.activate(third, C, 3).floor_txid == 0


def test_every_write_has_a_nonce_and_a_revision_of_its_own() -> None:
    first = active()
    second = ownership.drain(first, A, 1)
    assert first.nonce != second.nonce
    assert second.rev == first.rev + 1


@pytest.mark.parametrize("change", [ownership.activate, ownership.drain])
def test_only_the_claimant_moves_its_record(change: object) -> None:
    assert callable(change)
    record = genesis() if change is ownership.activate else active()
    with pytest.raises(NotAllowed, match="belongs to a"):
        change(record, B, 1)
    with pytest.raises(NotAllowed, match="belongs to a"):
        change(record, Owner(host="a", incarnation="la.n2"), 1)


def test_a_claim_is_activated_once_and_only_from_restoring() -> None:
    with pytest.raises(NotAllowed, match="active, not restoring"):
        ownership.activate(active(), A, 1)


@pytest.mark.parametrize("state", [OwnerState.DAMAGED, OwnerState.DELETED])
def test_damaged_and_deleted_are_not_claimed(state: OwnerState) -> None:
    record = active().model_copy(update={"state": state})
    with pytest.raises(NotAllowed, match=str(state)):
        ownership.claim(record, "t", B, authority_ended=True)


def test_content_failures_add_up_to_damage_and_others_do_not() -> None:
    record = ownership.claim(active(), "t", B, authority_ended=True)
    for _ in range(5):
        record = ownership.give_up(record, B, record.epoch)
        assert record.state is OwnerState.RESTORING
        record = ownership.claim(record, "t", B, authority_ended=False)
    for _ in range(ownership.MAX_CONTENT_FAILURES - 1):
        record = ownership.give_up(record, B, record.epoch, content_failed=True, reason="bad")
        record = ownership.claim(record, "t", B, authority_ended=False)
    record = ownership.give_up(record, B, record.epoch, content_failed=True, reason="bad")
    assert (record.state, record.reason) == (OwnerState.DAMAGED, "bad")


def test_a_given_up_claim_belongs_to_nobody() -> None:
    record = ownership.give_up(genesis(), A, 1)
    assert not record.held_by(A, 1)
    assert record.host == ""


@pytest.mark.parametrize(
    ("record", "held"),
    [
        (active(), True),
        (ownership.drain(active(), A, 1), True),
        (genesis(), False),
        (ownership.claim(active(), "t", B, authority_ended=True), False),
        (active().model_copy(update={"incarnation": "la.n2"}), False),
        (active().model_copy(update={"epoch": 2}), False),
        (active(B), False),
    ],
)
def test_only_the_very_claim_may_acknowledge(record: OwnerRecord, held: bool) -> None:
    assert record.held_by(A, 1) is held


def test_the_claim_names_the_lease_behind_it() -> None:
    assert A.authority == "la"
