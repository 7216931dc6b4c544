"""What the coordinator noticed and did, in order, for people to read."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from fleet.coordinator.history import History
from fleet.views import TimelineEntry

KEPT = 10_000
"""Entries that are kept; older ones are forgotten."""


class TimelineLog:
    """An append-only list of numbered entries, the oldest of which fall off."""

    def __init__(self, clock: Callable[[], float] = time.time, history: History | None = None):
        self._clock = clock
        self.history = history or History()
        """The record of operations, which outlives this list."""
        self._entries: list[TimelineEntry] = []
        self._next = 1
        self.counts: Counter[str] = Counter()
        """Entries of each kind, the forgotten ones included."""

    def note(
        self,
        kind: str,
        text: str,
        *,
        tenant: str | None = None,
        host: str | None = None,
        **data: Any,
    ) -> None:
        """Append an entry; ``data`` is for programs, ``text`` for people."""
        entry = TimelineEntry(
            n=self._next,
            at=self._clock(),
            kind=kind,
            tenant=tenant,
            host=host,
            text=text,
            data=data,
        )
        self._next += 1
        self.counts[kind] += 1
        self._entries.append(entry)
        del self._entries[:-KEPT]

    def after(self, n: int, limit: int = 1000) -> list[TimelineEntry]:
        """Up to ``limit`` entries with numbers above ``n``, oldest first."""
        return [entry for entry in self._entries if entry.n > n][:limit]
