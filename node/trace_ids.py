"""The ids of traces and spans, made of what the log says and the same in every life and place.

An execution's trace is that of its parent, or of the request that started it where that had one;
else it is made of lineage, id and start. Its span is made of these and of its run, so that
whichever engine closes it gives it the same ids, and attempts know their parent long before.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Final

from node.engine.beginning import Beginning
from node.engine.events import BEGINNINGS, RESERVED, Event, Kind
from node.engine.observer import Watched

#: Executions whose family is remembered.
REMEMBERED: Final = 4096


@dataclass(frozen=True, slots=True)
class Identity:
    """The ids of an execution's span. `remote` says that the parent is outside of the log;
    `sampled` what was decided there, None where nothing was."""

    trace: int
    span: int
    parent: int | None = None
    remote: bool = False
    sampled: bool | None = None

    def attempt(self, step: str, occurrence: int, attempt: int) -> int:
        """The id of an attempt's span."""
        return _id(8, f"{self.span:016x}", step, str(occurrence), str(attempt))


@dataclass(frozen=True, slots=True)
class Born:
    """What of an execution its ids are made of; times in unix milliseconds."""

    id: str
    workflow: str
    sequence: int
    started_at: int
    run: int = 1
    reopened_at: int = 0
    parent: str | None = None
    trace: str | None = None


def born(events: Iterable[Event]) -> Born | None:
    """What the events of an execution say, its newest incarnation."""
    found: Born | None = None
    for event in events:
        found = grown(found, event)
    return found


def grown(before: Born | None, event: Event) -> Born | None:
    """What one event more makes of it."""
    kind = event.kind
    if kind in (Kind.STARTED, Kind.RESTARTED):
        run = Beginning.of(event).run
        return Born(event.execution, event.name, event.sequence, event.at, run)
    if before is None:
        return None
    if kind in BEGINNINGS:
        return replace(before, run=Beginning.of(event).run, reopened_at=0)
    if kind is Kind.REOPENED:
        return replace(before, reopened_at=event.at)
    if kind is Kind.ORIGIN:
        body: dict[str, Any] = json.loads(str(event.payload))
        return replace(before, parent=body.get("parent"), trace=body.get("trace"))
    return before


def born_of(execution: Watched) -> Born:
    """What an observer is told of; not where its start is in the log."""
    return Born(
        execution.id,
        execution.workflow,
        0,
        execution.started_at,
        execution.run,
        execution.reopened_at,
        execution.parent,
        execution.trace,
    )


class Identities:
    """Finds the identity of each execution. `history` gives the whole of one's events; `current`
    what is known of one anyway, as of the place in the log to which everything was told."""

    def __init__(
        self,
        lineage: str,
        history: Callable[[str], list[Event]],
        current: Callable[[str], Born | None],
    ) -> None:
        self._lineage = lineage
        self._history = history
        self._current = current
        self._known: OrderedDict[tuple[str, int], Identity] = OrderedDict()

    def of_watched(self, execution: Watched) -> Identity:
        """The one that an observer is told of."""
        one = born_of(execution)
        known = (one.id, one.started_at) in self._known
        if one.parent is not None and not known and self._current(one.parent) is None:
            found = born(self._history(one.id))
            one = replace(one, sequence=0 if found is None else found.sequence)
        return self.of(one)

    def of(self, one: Born) -> Identity:
        """The one that the log tells of."""
        family = self._family(one)
        words = (self._lineage, one.id, str(one.started_at), str(one.run), str(one.reopened_at))
        return replace(family, span=_id(8, *words))

    def _family(self, one: Born) -> Identity:
        key = one.id, one.started_at
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._look(one)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return known

    def _look(self, one: Born) -> Identity:
        if one.parent is not None:
            parent = self._current(one.parent)
            if parent is None:
                before = [e for e in self._history(one.parent) if e.sequence < one.sequence]
                parent = born(before)
            # The engine's own workflows have no spans to be below.
            if parent is not None and not parent.workflow.startswith(RESERVED):
                above = self.of(parent)
                return Identity(above.trace, 0, above.span, False, above.sampled)
        if one.trace is not None:
            _, trace, span, flags = one.trace.split("-")
            return Identity(int(trace, 16), 0, int(span, 16), True, bool(int(flags, 16) & 1))
        return Identity(_id(16, self._lineage, one.id, str(one.started_at)), 0)


def _id(size: int, *words: str) -> int:
    text = "".join(f"{len(word)}:{word}" for word in words)
    digest = blake2b(text.encode(), digest_size=size, person=b"trace").digest()
    # Zero is no id; it comes once in so many ages.
    return int.from_bytes(digest) or 1
