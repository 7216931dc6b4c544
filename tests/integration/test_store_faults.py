"""What a real store's faults come to: typed errors, bounded waits, writes that are resolved.

The store is real and so is its client; the proxy between them makes the faults.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from backup import records
from backup.errors import (
    Ambiguous,
    Conflict,
    Denied,
    NotFound,
    Precondition,
    StoreError,
    Throttled,
    Unreachable,
)
from backup.records import Record
from backup.settings import StoreSettings
from backup.store import S3Store
from tests.faulty_store import (
    Changed,
    Fault,
    FaultyStore,
    Hung,
    Late,
    Policy,
    Refused,
    Request,
    Reset,
    cut_short,
)

T = TypeVar("T")


class Note(Record):
    """A record with something to say."""

    text: str


def times(count: int, fault: Fault, operation: str = "put") -> Policy:
    """The fault for the first so many requests of one kind."""
    left = count

    def policy(request: Request) -> Fault | None:
        nonlocal left
        if request.operation != operation or left == 0:
            return None
        left -= 1
        return fault

    return policy


def beside(settings: StoreSettings, policy: Policy, use: Callable[[S3Store, FaultyStore], T]) -> T:
    """Use a store through a proxy with this policy."""

    async def whole() -> T:
        impatient = settings.model_copy(update={"connect_timeout": 0.5, "read_timeout": 0.25})
        async with FaultyStore(impatient, policy) as proxy:
            return await asyncio.to_thread(use, S3Store(proxy.settings), proxy)

    return asyncio.run(whole())


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Refused(429, "TooManyRequests"), Throttled),
        (Refused(503, "SlowDown"), Throttled),
        (Refused(403, "AccessDenied"), Denied),
        (Refused(403, "ExpiredToken"), Denied),
        (Refused(404, "NoSuchBucket"), NotFound),
        (Refused(409, "ConditionalRequestConflict"), Conflict),
        (Refused(412, "PreconditionFailed"), Precondition),
        (Refused(500, "InternalError"), Ambiguous),
        (Refused(502, "BadGateway"), Ambiguous),
        (Refused(503, "ServiceUnavailable"), Ambiguous),
        (Reset(), Ambiguous),
        (Reset(after=True), Ambiguous),
        (Hung(), Ambiguous),
    ],
    ids=str,
)
def test_a_write_says_what_became_of_it(
    store_settings: StoreSettings, fault: Fault, error: type[StoreError]
) -> None:
    """And it is sent once: only its caller knows whether it may be repeated."""

    def use(store: S3Store, proxy: FaultyStore) -> None:
        began = time.monotonic()
        with pytest.raises(error):
            store.put("k", b"1")
        assert time.monotonic() - began < 5.0
        assert proxy.requests["put"] == 1

    beside(store_settings, times(1, fault), use)


def test_a_write_whose_answer_was_lost_is_there(store_settings: StoreSettings) -> None:
    def use(store: S3Store, _proxy: FaultyStore) -> bytes:
        with pytest.raises(Ambiguous):
            store.put("k", b"1", if_none_match=True)
        return store.get("k").body

    assert beside(store_settings, times(1, Reset(after=True)), use) == b"1"


@pytest.mark.parametrize(
    "fault",
    [Refused(503, "SlowDown"), Refused(500, "InternalError"), Reset(), Reset(after=True), Hung()],
    ids=str,
)
@pytest.mark.parametrize("operation", ["get", "list"])
def test_a_read_outlives_two_faults_and_no_more(
    store_settings: StoreSettings, fault: Fault, operation: str
) -> None:
    def read(store: S3Store) -> object:
        return store.get("a/k").body if operation == "get" else len(list(store.list("a/")))

    def use(store: S3Store, proxy: FaultyStore) -> None:
        store.put("a/k", b"1")
        proxy.policy = times(2, fault, operation)
        assert read(store) in (b"1", 1)
        proxy.policy = times(3, fault, operation)
        with pytest.raises((Throttled, Ambiguous)):
            read(store)

    beside(store_settings, times(0, fault), use)


def test_a_store_that_is_gone(store_settings: StoreSettings) -> None:
    gone = store_settings.model_copy(update={"endpoint": "http://127.0.0.1:9"})
    with pytest.raises(Unreachable):
        S3Store(gone).put("k", b"1")


@pytest.mark.parametrize(
    "faults",
    [
        [Reset(after=True)],
        [Hung(), Reset()],
        [Refused(500, "InternalError"), Reset(after=True)],
        [Refused(503, "SlowDown"), Refused(409, "ConditionalRequestConflict")],
        [Late(0.4)],
    ],
    ids=str,
)
def test_a_record_is_swapped_once_whatever_the_answers(
    store_settings: StoreSettings, faults: list[Fault]
) -> None:
    """A late write counts as the one that it is: `Late` passes it on after the client gave up."""

    def policy(request: Request) -> Fault | None:
        return faults.pop(0) if request.operation == "put" and faults else None

    def use(store: S3Store, proxy: FaultyStore) -> None:
        first = records.swap(store, "r", Note(text="one"), None)
        proxy.policy = policy
        wanted = Note.model_validate(first.record.succeeded_by(text="two"))
        written = records.swap(store, "r", wanted, first.etag)
        found = records.read(store, "r", Note)
        assert found == written
        assert found.record == wanted
        assert not faults

    beside(store_settings, times(0, Reset()), use)


def test_of_two_writers_the_one_without_an_answer_may_have_won(
    store_settings: StoreSettings,
) -> None:
    def use(store: S3Store, proxy: FaultyStore) -> None:
        first = records.swap(store, "r", Note(text="one"), None)
        ours, theirs = Note(rev=2, text="ours"), Note(rev=2, text="theirs")
        proxy.policy = times(1, Reset(after=True))
        assert records.swap(store, "r", ours, first.etag).record == ours
        with pytest.raises(Precondition):
            records.swap(store, "r", theirs, first.etag)

    beside(store_settings, times(0, Reset()), use)


def test_the_proxy_can_cut_a_list_short(store_settings: StoreSettings) -> None:
    """The fault itself: without it, tests of what relies on whole lists would prove nothing."""

    def use(store: S3Store, proxy: FaultyStore) -> Iterator[int]:
        for name in "abc":
            store.put(f"l/{name}", b"1")
        yield len(list(store.list("l/")))
        proxy.policy = times(1, Changed(cut_short(1)), "list")
        yield len(list(store.list("l/")))
        yield len(list(store.list("l/")))

    assert beside(store_settings, times(0, Reset()), lambda s, p: list(use(s, p))) == [3, 1, 3]
