"""A tenant that is buried, brought back, removed: the transitions one by one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from backup import burial, ownership
from backup.ownership import (
    Deletion,
    NotAllowed,
    Origin,
    Owner,
    OwnerRecord,
    OwnerState,
    TenantRecord,
    restore_wanted,
)

A = Owner(host="a", incarnation="l.n")
B = Owner(host="b", incarnation="m.n")


def active() -> OwnerRecord:
    return ownership.activate(ownership.claim(None, "t", A, authority_ended=True), A, 1)


def released() -> OwnerRecord:
    return ownership.release(ownership.drain(active(), A, 1), A, 1, 9, None)


def damaged() -> OwnerRecord:
    claimed = ownership.claim(active(), "t", B, authority_ended=True)
    return ownership.damage(claimed, B, 2, "a gap")


def erased() -> OwnerRecord:
    buried = burial.bury(released(), "t", 1, authority_ended=True)
    return burial.end_erasing(burial.begin_erasing(buried, 1), 1)


def test_a_tenant_that_serves_is_not_buried() -> None:
    with pytest.raises(NotAllowed, match="not fenced"):
        burial.bury(active(), "t", 1, authority_ended=False)
    with pytest.raises(NotAllowed, match="not fenced"):
        burial.bury(ownership.drain(active(), A, 1), "t", 1, authority_ended=False)


@pytest.mark.parametrize("before", [active(), released(), damaged()], ids=lambda r: r.state)
def test_whoever_had_it_has_it_no_more(before: OwnerRecord) -> None:
    buried = burial.bury(before, "t", 1, authority_ended=True)
    assert buried.state is OwnerState.DELETED
    assert not buried.held_by(A, before.epoch)
    assert not buried.held_by(A, buried.epoch)
    assert buried.epoch == before.epoch + 1
    changes: list[Callable[[], OwnerRecord]] = [
        lambda: ownership.claim(buried, "t", B, authority_ended=True),
        lambda: ownership.activate(buried, A, before.epoch),
        lambda: ownership.drain(buried, A, before.epoch),
        lambda: ownership.mark_purging(buried, [1]),
        lambda: burial.bury(buried, "t", 2, authority_ended=True),
    ]
    for change in changes:
        with pytest.raises(NotAllowed):
            change()


def test_a_claim_that_is_under_way_ends() -> None:
    claimed = ownership.claim(active(), "t", B, authority_ended=True)
    buried = burial.bury(claimed, "t", 1, authority_ended=False)
    with pytest.raises(NotAllowed):
        ownership.activate(buried, B, 2)
    with pytest.raises(NotAllowed):
        ownership.give_up(buried, B, 2)


def test_it_is_brought_back_to_where_it_was() -> None:
    straight = ownership.claim(released(), "t", B, authority_ended=True)
    back = burial.unbury(burial.bury(released(), "t", 1, authority_ended=True), "t", 1)
    claimed = ownership.claim(back, "t", B, authority_ended=False)
    assert (claimed.parent, claimed.floor_txid) == (straight.parent, straight.floor_txid)
    assert claimed.tomb is None
    assert ownership.activate(claimed, B, claimed.epoch).state is OwnerState.ACTIVE


def test_a_restore_that_was_under_way_goes_on() -> None:
    origin = Origin(tenant="t", lineage=active().lineage, epoch=1, txid=1)
    claimed = ownership.claim(released(), "t", B, authority_ended=True, origin=origin)
    back = burial.unbury(burial.bury(claimed, "t", 1, authority_ended=True), "t", 1)
    assert ownership.claim(back, "t", B, authority_ended=True).origin == claimed.origin


def test_a_damaged_tenant_is_brought_back_damaged() -> None:
    back = burial.unbury(burial.bury(damaged(), "t", 1, authority_ended=True), "t", 1)
    assert (back.state, back.reason) == (OwnerState.DAMAGED, "a gap")
    with pytest.raises(NotAllowed, match="a gap"):
        ownership.claim(back, "t", B, authority_ended=True)


def test_one_that_was_never_started_is_buried_and_brought_back() -> None:
    buried = burial.bury(None, "t", 1, authority_ended=True)
    assert buried.state is OwnerState.DELETED
    claimed = ownership.claim(burial.unbury(buried, "t", 1), "t", A, authority_ended=True)
    assert (claimed.genesis, claimed.parent) == (True, None)


def test_each_deletion_is_settled_once() -> None:
    back = burial.unbury(burial.bury(active(), "t", 1, authority_ended=True), "t", 1)
    with pytest.raises(NotAllowed, match="before"):
        burial.bury(back, "t", 1, authority_ended=True)
    assert burial.bury(back, "t", 2, authority_ended=True).deletion == 2
    # Taken back before it was carried out.
    for now in (active(), None):
        settled = burial.unbury(now, "t", 1)
        assert burial.unbury(settled, "t", 1) is settled
        with pytest.raises(NotAllowed, match="before"):
            burial.bury(settled, "t", 1, authority_ended=True)


def test_from_half_of_it_there_is_no_way_back() -> None:
    buried = burial.bury(active(), "t", 1, authority_ended=True)
    with pytest.raises(NotAllowed, match="not begun"):
        burial.end_erasing(buried, 1)
    with pytest.raises(NotAllowed):
        burial.begin_erasing(buried, 2)
    with pytest.raises(NotAllowed):
        burial.begin_erasing(active(), 1)
    begun = burial.begin_erasing(buried, 1)
    assert burial.begin_erasing(begun, 1) is begun
    for record in (begun, burial.end_erasing(begun, 1)):
        with pytest.raises(NotAllowed, match="too late"):
            burial.unbury(record, "t", 1)


def test_a_name_is_claimed_anew_for_another_tenant() -> None:
    claimed = ownership.claim(erased(), "t", B, authority_ended=True)
    assert claimed.lineage != released().lineage
    assert (claimed.genesis, claimed.parent, claimed.tomb) == (True, None, None)
    assert (claimed.epoch, claimed.deletion) == (3, 1)
    origin = Origin(tenant="other", lineage="l", epoch=4, txid=2)
    # The first restore of a fork is not one that the name's last tenant had.
    was = ownership.claim(released(), "t", B, authority_ended=True, origin=origin)
    buried = burial.bury(was, "t", 1, authority_ended=True)
    gone = burial.end_erasing(burial.begin_erasing(buried, 1), 1)
    wanted = TenantRecord(tenant="t", app="app", restore=origin)
    assert restore_wanted(wanted, gone) == origin
    forked = ownership.claim(gone, "t", B, authority_ended=True, origin=origin)
    assert (forked.genesis, forked.origin) == (False, origin)


def test_a_tombstone_is_wanted_until_it_is_settled() -> None:
    deletion = Deletion(number=1, asked_at=1.0, purge_after=2.0)
    wanted = TenantRecord(tenant="t", app="app", deletion=deletion)
    assert burial.deletion_wanted(wanted, None) == deletion
    assert burial.deletion_wanted(wanted, active()) == deletion
    buried = burial.bury(active(), "t", 1, authority_ended=True)
    assert burial.deletion_wanted(wanted, buried) is None
    assert burial.deletion_wanted(wanted, burial.unbury(active(), "t", 1)) is None
    purged = deletion.model_copy(update={"purged_at": 3.0})
    gone = TenantRecord(tenant="t", app="", deletion=purged)
    assert gone.gone
    assert burial.deletion_wanted(gone, None) is None
    assert not TenantRecord(tenant="t", app="app", deletion=deletion).gone
    assert burial.is_buried(buried)
    assert not burial.is_buried(erased())
    assert not burial.is_buried(None)
