"""Which state of which epoch a restore takes, and what it says of a chain that is not whole."""

from __future__ import annotations

import pytest

from backup import keys, lineage, records
from backup.lineage import EpochRecord
from backup.memory import MemoryStore
from backup.ownership import OwnerRecord, OwnerState, Parent
from restore.errors import Damaged, RestoreFailed
from restore.history import read_history
from restore.moment import AtTime, Now, choose
from restore.plan import plan
from restore.scan import scan
from tests.ltx_files import put_ltx
from tests.unit.restore.test_plan import files


def tenant(store: MemoryStore, epoch: int, state: OwnerState = OwnerState.ACTIVE) -> None:
    """Tenant ``t`` as its record has it."""
    parent = Parent(epoch=epoch - 1) if epoch > 1 else None
    record = OwnerRecord(
        tenant="t",
        lineage="l",
        epoch=epoch,
        host="h",
        incarnation="a.b",
        state=state,
        parent=parent,
    )
    store.objects.pop(keys.owner("t"), None)
    records.swap(store, keys.owner("t"), record, None)


def epoch(store: MemoryStore, number: int, parent: int | None, txid: int, began_at: float) -> None:
    record = EpochRecord(
        tenant="t",
        lineage="l",
        epoch=number,
        parent=parent,
        parent_txid=txid,
        host="h",
        began_at=began_at,
    )
    lineage.write(store, record)


@pytest.fixture
def two_epochs() -> MemoryStore:
    """Epoch 1 from 100 to 104, of which epoch 3 took over 3 transactions at 110; a zombie wrote on,
    and a claim for epoch 2 came to nothing."""
    store = MemoryStore()
    for txid in (1, 2, 3):
        put_ltx(store, 1, txid, txid, at=100.0 + txid)
    put_ltx(store, 1, 4, 4, at=130.0)  # the zombie's
    epoch(store, 1, None, 0, 101.5)
    epoch(store, 2, 1, 3, 107.0)
    epoch(store, 3, 1, 3, 110.0)
    put_ltx(store, 3, 1, 1, at=109.0)
    put_ltx(store, 3, 2, 2, at=120.0)
    tenant(store, 3)
    return store


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (500.0, (3, 2)),
        (120.0, (3, 2)),
        (119.0, (3, 1)),
        (110.0, (3, 1)),
        (109.5, (1, 3)),  # not epoch 2, which never was the tenant's
        (103.0, (1, 3)),
        (102.9, (1, 2)),
        (101.5, (1, 1)),
    ],
)
def test_a_time_finds_the_newest_state_that_is_not_younger(
    two_epochs: MemoryStore, at: float, expected: tuple[int, int]
) -> None:
    choice = choose(two_epochs, "t", AtTime(at))
    assert (choice.epoch, choice.txid) == expected
    assert choice.at <= at
    assert choice.missing is None


def test_what_a_zombie_wrote_is_not_history(two_epochs: MemoryStore) -> None:
    history = read_history(two_epochs, "t")
    assert [(span.epoch, span.last_txid) for span in history.spans] == [(3, None), (1, 3)]
    assert history.complete
    assert scan(two_epochs, "t", history.span(1)).reachable == 3


def test_before_the_beginning_there_is_nothing(two_epochs: MemoryStore) -> None:
    with pytest.raises(RestoreFailed, match="does not reach back"):
        choose(two_epochs, "t", AtTime(50.0))
    with pytest.raises(RestoreFailed, match="epoch 2 is not part"):
        read_history(two_epochs, "t").span(2)


def test_a_state_that_was_compacted_away_is_not_replaced_by_a_younger_one() -> None:
    store = MemoryStore()
    put_ltx(store, 1, 1, 9, at=200.0, level=1)
    epoch(store, 1, None, 0, 100.0)
    tenant(store, 1)
    with pytest.raises(RestoreFailed, match=r"oldest state of epoch 1 .* 1970-01-01T00:03:20"):
        choose(store, "t", AtTime(150.0))
    assert choose(store, "t", AtTime(200.0)).txid == 9


def test_a_gap_is_named_with_what_can_be_reached() -> None:
    store = MemoryStore()
    for txid in (1, 2, 4):
        put_ltx(store, 1, txid, txid, at=100.0 + txid)
    epoch(store, 1, None, 0, 100.0)
    tenant(store, 1)
    choice = choose(store, "t", Now())
    assert (choice.txid, choice.missing) == (2, "transaction 3 is missing, though 4 is there")
    # Before the gap nothing is missing.
    assert choose(store, "t", AtTime(101.5)).missing is None


def test_a_last_state_that_was_proven_and_is_gone_is_missed() -> None:
    store = MemoryStore()
    epoch(store, 1, None, 0, 100.0)
    epoch(store, 2, 1, 3, 110.0)
    put_ltx(store, 1, 1, 2, at=101.0)
    put_ltx(store, 2, 1, 1, at=109.0)
    tenant(store, 2)
    choice = choose(store, "t", AtTime(105.0))
    assert choice.missing == "it ends at transaction 2, but 3 was proven to be there"
    store.objects = {k: v for k, v in store.objects.items() if "epochs/00000001/" not in k}
    with pytest.raises(Damaged, match="there is nothing"):
        choose(store, "t", AtTime(105.0))


def test_a_tenant_that_never_was() -> None:
    with pytest.raises(RestoreFailed, match="never started"):
        read_history(MemoryStore(), "t")


def test_a_history_whose_beginning_is_not_recorded_still_has_its_newest_state() -> None:
    store = MemoryStore()
    put_ltx(store, 4, 1, 1, at=100.0)
    tenant(store, 4)
    assert not read_history(store, "t").complete
    assert choose(store, "t", Now()).txid == 1


def test_a_scan_reads_every_file(two_epochs: MemoryStore) -> None:
    span = read_history(two_epochs, "t").spans[0]
    found = scan(two_epochs, "t", span)
    assert (found.whole, found.files, found.reachable) == (True, 2, 2)

    name = f"{keys.epoch('t', 3)}0000/{2:016x}-{2:016x}.ltx"
    body, at = two_epochs.objects[name]
    two_epochs.objects[name] = (body[:-30] + bytes([body[-30] ^ 4]) + body[-29:], at)
    found = scan(two_epochs, "t", span)
    assert [item.file.low for item in found.bad] == [2]
    assert (found.whole, found.reachable, found.wanted) == (False, 1, 2)
    assert found.missing == "it ends at transaction 1, but 2 was proven to be there"

    two_epochs.objects[name] = two_epochs.objects[f"{keys.epoch('t', 3)}0000/{1:016x}-{1:016x}.ltx"]
    assert scan(two_epochs, "t", span).bad[0].reason == "it holds transactions 1 to 1"


def test_a_scan_is_not_misled_by_compaction(two_epochs: MemoryStore) -> None:
    """A file that goes while it is read is no damage where a longer one has taken its place."""
    span = read_history(two_epochs, "t").spans[0]
    name = f"{keys.epoch('t', 3)}0000/{2:016x}-{2:016x}.ltx"

    def compact(operation: str, key: str) -> None:
        if operation == "get" and key == name and name in two_epochs.objects:
            put_ltx(two_epochs, 3, 1, 2, at=120.0, level=1)
            del two_epochs.objects[name]

    two_epochs.fault = compact
    assert scan(two_epochs, "t", span).whole


def test_states_that_can_be_restored_exactly() -> None:
    assert plan(files((0, 1, 1), (0, 2, 2), (0, 4, 4))).positions == (1, 2)
    assert plan(files((1, 1, 5), (0, 4, 4), (0, 5, 5), (0, 6, 6))).positions == (5, 6)
    assert plan(files((9, 1, 10), (1, 8, 12), (0, 13, 13))).positions == (10, 12, 13)
    chain = plan(files((9, 1, 10), (1, 1, 7), (1, 8, 12), (0, 11, 11), (0, 13, 13))).chain
    assert [(file.level, file.high) for file in chain] == [(9, 10), (1, 12), (0, 13)]
