"""What the log says of an execution's streams: values in order, each at an offset of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from node.engine.events import BEGINNINGS, Event, Kind

#: Bytes of values after which one chunk is full and another one begins.
FULL: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Item:
    """One value of a stream.

    `source` is the step that published it, as `answer#1`, None for the workflow itself.
    `begins` says that an attempt begins with it: what the same source published before is
    void. `discards_from` is an offset from which on all before this one is void.
    """

    offset: int
    value: Any
    source: str | None
    begins: bool
    discards_from: int | None


@dataclass(slots=True)
class Strand:
    """One stream as far as the log was read."""

    length: int = 0
    closed: int | None = None
    """The event that closed it."""
    discards_from: int | None = None
    places: list[tuple[int, int]] = field(default_factory=list)
    """Events with values of it, and the first offset of each."""


class Strands:
    """The streams of one execution, from its events in order. Offsets count on over all of its
    histories, so that none ever stands for another value.

    `lengths` says how long they were at events that begin a history, where earlier ones were
    removed.
    """

    def __init__(self, lengths: Mapping[int, Mapping[str, int]] | None = None) -> None:
        self.by_name: dict[str, Strand] = {}
        self.lengths = lengths or {}

    def add(self, event: Event, wanted: str | None = None) -> list[Item]:
        """What the next event adds to the stream `wanted`."""
        kind = event.kind
        if kind is Kind.CHUNK:
            return self._chunk(event, event.name, None, wanted)
        if kind is Kind.STEP_CHUNK:
            name = json.loads(str(event.payload))["s"]
            return self._chunk(event, name, f"{event.name}#{event.occurrence}", wanted)
        if kind is Kind.REOPENED:
            self._reopen(int(str(event.payload)))
        elif kind in BEGINNINGS:
            for name, length in self.lengths.get(event.sequence, {}).items():
                self.by_name.setdefault(name, Strand()).length = length
            for strand in self.by_name.values():
                strand.closed = None
                if kind is Kind.RESTARTED and strand.length:
                    strand.discards_from = 0
        return []

    def _chunk(self, event: Event, name: str, source: str | None, wanted: str | None) -> list[Item]:
        body = json.loads(str(event.payload))
        strand = self.by_name.setdefault(name, Strand())
        values, first = body["v"], strand.length
        if values:
            strand.places.append((event.sequence, first))
            strand.length += len(values)
        if "end" in body:
            strand.closed = event.sequence
        if name != wanted or not values:
            return []
        discards, strand.discards_from = strand.discards_from, None
        begins = "b" in body
        return [
            Item(first + n, value, source, begins and not n, None if n else discards)
            for n, value in enumerate(values)
        ]

    def _reopen(self, cut: int) -> None:
        for strand in self.by_name.values():
            if strand.closed is not None and strand.closed >= cut:
                strand.closed = None
            void = [first for sequence, first in strand.places if sequence >= cut]
            if void:
                before = strand.discards_from
                strand.discards_from = void[0] if before is None else min(before, void[0])


def chunk(values: Sequence[str], *, stream: str | None = None, begins: bool = False) -> str:
    """The payload of a chunk of JSON values; with its `stream` for that of a step."""
    head = "" if stream is None else f'"s":{json.dumps(stream)},'
    tail = ',"b":1' if begins else ""
    return f'{{{head}"v":[{",".join(values)}]{tail}}}'


END: Final = '{"v":[],"end":1}'


def check_chunk(event: Event) -> None:
    """Raises ValueError, KeyError or TypeError for a payload that is not a chunk's."""
    body = json.loads(str(event.payload))
    known = {"s", "v", "b"} if event.kind is Kind.STEP_CHUNK else {"v", "end"}
    if not isinstance(body, dict) or not body.keys() <= known or not isinstance(body["v"], list):
        raise ValueError("it is no chunk of a stream")
    if event.kind is Kind.STEP_CHUNK and not isinstance(body["s"], str):
        raise ValueError("it does not say of which stream it is")
    if not body["v"] and "end" not in body:
        raise ValueError("it adds nothing to its stream")
