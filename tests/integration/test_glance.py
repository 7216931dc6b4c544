"""The owner's record as the barrier reads it, on real stores."""

from __future__ import annotations

import asyncio
import time

import pytest

from backup import records
from backup.errors import StoreError
from backup.glance import SIGNED_ANEW, Glance
from backup.memory import MemoryStore
from backup.records import BadRecord, Record
from backup.settings import StoreSettings
from backup.store import S3Store
from tests.faulty_store import FaultyStore, Refused, Reset, healthy


class Note(Record):
    text: str


def test_what_was_written_last_is_read(store_settings: StoreSettings) -> None:
    async def test() -> None:
        store = S3Store(store_settings)
        clock = time.monotonic()
        glance = Glance(store, "glance/a", Note, lambda: clock)
        assert await glance.read() is None
        etag = None
        for number in range(5):
            note = Note(text=str(number), rev=number + 1)
            written = await asyncio.to_thread(records.swap, store, "glance/a", note, etag)
            etag = written.etag
            assert await glance.read() == note
            # The signature is renewed in time.
            clock += SIGNED_ANEW + 1
        await asyncio.to_thread(store.put, "glance/a", b"no record", if_match=etag)
        with pytest.raises(BadRecord):
            await glance.read()
        await glance.close()

    asyncio.run(test())


def test_a_store_that_does_not_answer_is_no_missing_record(store_settings: StoreSettings) -> None:
    async def test() -> None:
        async with FaultyStore(store_settings) as proxy:
            store = S3Store(proxy.settings, read_attempts=1)
            glance = Glance(store, "glance/b", Note)
            await asyncio.to_thread(records.swap, store, "glance/b", Note(text="here"), None)
            assert await glance.read() is not None
            for fault in (Refused(503, "SlowDown"), Refused(403, "AccessDenied"), Reset()):
                proxy.policy = lambda _request, fault=fault: fault  # type: ignore[misc]
                with pytest.raises(StoreError):
                    await glance.read()
            # It is the quick way that is refused: the usual one tells how it stands.
            quick = [True]
            proxy.policy = lambda _request: Refused(403, "Expired") if quick.pop() else None
            quick[:0] = [False, False]
            assert await glance.read() is not None
            proxy.policy = healthy
            found = await glance.read()
            assert found is not None
            assert found.text == "here"
            await glance.close()

    asyncio.run(test())


def test_other_stores_are_read_in_the_usual_way() -> None:
    async def test() -> None:
        store = MemoryStore()
        glance = Glance(store, "a", Note)
        assert await glance.read() is None
        records.swap(store, "a", Note(text="x"), None)
        found = await glance.read()
        assert found is not None
        assert found.text == "x"
        await glance.close()

    asyncio.run(test())
