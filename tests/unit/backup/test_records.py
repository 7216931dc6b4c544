"""Compare-and-swap with answers that get lost."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Literal

import pytest

from backup import records
from backup.errors import Ambiguous, Denied, Precondition, Throttled, Unreachable
from backup.memory import MemoryStore, Operation
from backup.records import Record


class Note(Record):
    text: str = ""


def swap(store: MemoryStore, note: Note, over: str | None, patience: float = 5.0) -> str:
    ticks = itertools.count()
    return records.swap(
        store,
        "k",
        note,
        over,
        patience=patience,
        clock=lambda: float(next(ticks)),
        sleep=lambda seconds: None,
    ).etag


def test_create_replace_and_refuse() -> None:
    store = MemoryStore()
    etag = swap(store, Note(text="one"), None)
    with pytest.raises(Precondition):
        swap(store, Note(text="again"), None)
    newer = swap(store, Note(text="two"), etag)
    with pytest.raises(Precondition):
        swap(store, Note(text="stale"), etag)
    read = records.read(store, "k", Note)
    assert read is not None
    assert (read.record.text, read.etag) == ("two", newer)


def test_equal_content_has_different_etags() -> None:
    store = MemoryStore()
    first = swap(store, Note(text="same"), None)
    assert swap(store, Note(text="same"), first) != first


def test_absent_record_is_none_and_foreign_one_is_an_error() -> None:
    store = MemoryStore()
    assert records.read(store, "k", Note) is None
    store.put("k", b'{"rev": "many"}')
    with pytest.raises(records.BadRecord, match="k is not a Note"):
        records.read(store, "k", Note)


def test_a_write_whose_answer_was_lost_is_found_by_its_nonce() -> None:
    store = MemoryStore()
    lose: Iterator[Literal["after"]] = iter(["after"])
    store.fault = lambda operation, key: next(lose, None) if operation == "put" else None
    note = Note(text="landed")
    etag = swap(store, note, None)
    assert store.get("k").etag == etag
    assert [operation for operation, _ in store.operations].count("put") == 1


def test_a_write_that_never_landed_is_repeated_identically() -> None:
    store = MemoryStore()
    faults = iter([Ambiguous("lost"), Unreachable("down"), Throttled("slow")])
    store.fault = lambda operation, key: next(faults, None) if operation == "put" else None
    note = Note(text="at last")
    swap(store, note, None)
    found = records.read(store, "k", Note)
    assert found is not None
    assert found.record == note


def test_a_late_landing_between_look_and_repetition_counts_as_success() -> None:
    """The lost write lands only after the re-read showed nothing: the repetition meets a 412."""
    store = MemoryStore()
    note = Note(text="late")
    state = {"puts": 0}

    def fault(operation: Operation, key: str) -> Ambiguous | None:
        if operation != "put":
            return None
        state["puts"] += 1
        if state["puts"] == 1:
            return Ambiguous("lost")
        if state["puts"] == 2:
            store.objects["k"] = (note.model_dump_json().encode(), store.date())
        return None

    store.fault = fault
    swap(store, note, None)
    assert state["puts"] == 2


def test_a_lost_race_after_an_ambiguous_write_is_a_lost_race() -> None:
    store = MemoryStore()
    other = Note(text="other").model_dump_json().encode()

    def fault(operation: Operation, key: str) -> Ambiguous | None:
        if operation == "put" and "k" not in store.objects:
            store.objects["k"] = (other, store.date())
            return Ambiguous("lost")
        return None

    store.fault = fault
    with pytest.raises(Precondition):
        swap(store, Note(text="mine"), None)


def test_unresolved_after_patience_is_ambiguous_not_failed() -> None:
    store = MemoryStore()
    store.fault = lambda operation, key: Ambiguous("lost") if operation == "put" else None
    with pytest.raises(Ambiguous, match="no answer that settles"):
        swap(store, Note(), None, patience=3.0)


def test_nothing_is_sent_once_it_is_not_allowed() -> None:
    store = MemoryStore()
    with pytest.raises(Ambiguous, match="no longer allowed"):
        records.swap(store, "k", Note(), None, may_send=lambda: False)
    assert store.operations == []


def test_a_refusal_is_not_repeated() -> None:
    store = MemoryStore()
    store.fault = lambda operation, key: Denied("no") if operation == "put" else None
    with pytest.raises(Denied):
        swap(store, Note(), None)
    assert len(store.operations) == 1
