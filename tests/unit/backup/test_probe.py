"""The probe accepts a store that keeps its promises, and no other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import pytest

from backup.errors import Ambiguous, Denied, NotFound, Unreachable
from backup.memory import MemoryStore
from backup.probe import probe


def test_a_good_store_passes_and_is_left_clean() -> None:
    store = MemoryStore()
    report = probe(store)
    assert report.ok, report.findings
    assert store.objects == {}


class IgnoresConditions(MemoryStore):
    """As Google's S3 interface does."""

    def put(
        self, key: str, body: bytes, *, if_match: str | None = None, if_none_match: bool = False
    ) -> str:
        return super().put(key, body)


class IgnoresIfMatch(MemoryStore):
    def put(
        self, key: str, body: bytes, *, if_match: str | None = None, if_none_match: bool = False
    ) -> str:
        return super().put(key, body, if_none_match=if_none_match)


class ReadsStale(MemoryStore):
    def put(
        self, key: str, body: bytes, *, if_match: str | None = None, if_none_match: bool = False
    ) -> str:
        kept = self.objects.get(key)
        etag = super().put(key, body, if_match=if_match, if_none_match=if_none_match)
        if kept is not None and key.endswith("conditions"):
            self.objects[key] = kept
        return etag


@pytest.mark.parametrize("broken", [IgnoresConditions, IgnoresIfMatch, ReadsStale])
def test_broken_stores_are_caught(broken: type[MemoryStore]) -> None:
    report = probe(broken())
    assert not report.ok
    assert report.findings
    assert "conditional writes" in report.hint


def test_a_lost_answer_shows_nothing_and_is_probed_anew() -> None:
    store = MemoryStore()
    lose: Iterator[Literal["after"]] = iter(["after"])
    store.fault = lambda operation, key: next(lose, None) if operation == "put" else None
    report = probe(store)
    assert report.ok, report.findings
    store.fault = lambda operation, key: Ambiguous("no answer") if operation == "put" else None
    assert not probe(store).ok


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (Denied("403"), "access key"),
        (NotFound("no bucket"), "create the bucket"),
        (Unreachable("refused"), "URL"),
    ],
)
def test_a_store_that_cannot_be_used_says_what_to_do(
    error: Denied | NotFound | Unreachable, hint: str
) -> None:
    store = MemoryStore()
    store.fault = lambda operation, key: error
    report = probe(store)
    assert not report.ok
    assert hint in report.hint
