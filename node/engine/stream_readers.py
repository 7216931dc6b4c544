"""Following streams: each reader reads the log for itself, and is woken when there is more."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from node.engine.errors import EngineStopped, UnknownExecution, UnknownStream
from node.engine.events import Event, Status
from node.engine.store import Stored
from node.engine.stream import Item, Strands

Find = Callable[[str], Stored]
#: The events of an execution up to its newest one, or up to the given one, after a sequence.
Events = Callable[[Stored, int, int], list[Event]]
Lengths = Callable[[Stored], Mapping[int, Mapping[str, int]]]


@dataclass(frozen=True, slots=True)
class StreamView:
    """A stream as it is now. `closed` also when its execution has ended."""

    name: str
    length: int
    closed: bool


@dataclass(frozen=True, slots=True)
class Page:
    """Some values of a stream. `next` is the offset after them; `ended` says that no more will
    come. `sequence` is the event that all this depends on."""

    items: list[Item]
    next: int
    ended: bool
    sequence: int


class Readers:
    """Who follows which execution. A writer only ever sets their flags."""

    def __init__(self) -> None:
        self._by_key: dict[str, set[StreamReader]] = {}
        self.stopped = False

    def wake(self, key: str, sequence: int) -> None:
        """There is a chunk at `sequence`; 0 when the execution has ended, or goes on."""
        for reader in self._by_key.get(key, ()):
            reader.told(sequence)

    def follows(self, key: str) -> bool:
        """Whether anybody reads what this execution publishes."""
        return key in self._by_key

    def stop(self) -> None:
        """The engine stops: whoever reads on is told so."""
        self.stopped = True
        for readers in self._by_key.values():
            for reader in readers:
                reader.told(0)

    def add(self, reader: StreamReader) -> None:
        """Wake it from now on."""
        self._by_key.setdefault(reader.key, set()).add(reader)

    def remove(self, reader: StreamReader) -> None:
        """Wake it no more."""
        readers = self._by_key.get(reader.key, set())
        readers.discard(reader)
        if not readers:
            self._by_key.pop(reader.key, None)


class StreamReader:
    """Follows one stream from an offset. Used in `with`, which ends it."""

    def __init__(
        self,
        key: str,
        name: str,
        offset: int,
        *,
        find: Find,
        events: Events,
        lengths: Lengths,
        readers: Readers,
    ) -> None:
        self.key = key
        self.name = name
        self._offset = offset
        self._find = find
        self._events = events
        self._lengths = lengths
        self._readers = readers
        self._strands = Strands()
        self._ready: deque[Item] = deque()
        self._seen = 0
        self._head = 0
        self._look = True
        self._over = False
        self.status = Status.RUNNING
        """How the execution stood when its end was last looked for."""
        self._news = asyncio.Event()

    def __enter__(self) -> Self:
        self._readers.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._readers.remove(self)

    def told(self, sequence: int) -> None:
        """There is something to read."""
        self._head = max(self._head, sequence)
        self._look = self._look or not sequence
        self._news.set()

    async def read(self, limit: int, wait: float) -> Page:
        """Up to `limit` values, once there are any, or after `wait` seconds.

        Raises UnknownExecution, UnknownStream, EngineStopped.
        """
        self._take()
        if not self._ready and not self._ended and wait > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    while not self._ready and not self._ended:
                        await self._news.wait()
                        self._take()
        items = [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]
        if items:
            self._offset = items[-1].offset + 1
        ended = self._ended and not self._ready
        return Page(items, self._offset, ended, self._seen)

    @property
    def _ended(self) -> bool:
        strand = self._strands.by_name.get(self.name)
        return self._over or (strand is not None and strand.closed is not None)

    def _take(self) -> None:
        """Read what the log has more than was seen."""
        if self._readers.stopped:
            raise EngineStopped("the engine stopped while a stream was followed")
        self._news.clear()
        head, self._head = self._head, 0
        if not self._look and head <= self._seen:
            return
        try:
            stored = self._find(self.key)
        except UnknownExecution:
            if not self._seen:
                raise
            # It was deleted while it was read: there is nothing more to come.
            self._over, self._look = True, False
            return
        if self._look:
            head = 0
            self._over, self.status = stored.closed is not None, stored.status
        self._look = False
        self._strands.lengths = self._lengths(stored)
        for event in self._events(stored, head, self._seen):
            self._seen = event.sequence
            for item in self._strands.add(event, self.name):
                if item.offset >= self._offset:
                    self._ready.append(item)
        if self._over and self.name not in self._strands.by_name:
            raise UnknownStream(f"execution {self.key!r} has published nothing to {self.name!r}")


def streams_of(
    events: list[Event], lengths: Mapping[int, Mapping[str, int]], *, over: bool
) -> list[StreamView]:
    """The streams of an execution; `over` says that it has ended. `lengths` as for `Strands`."""
    strands = Strands(lengths)
    for event in events:
        strands.add(event)
    return [
        StreamView(name, strand.length, over or strand.closed is not None)
        for name, strand in strands.by_name.items()
    ]
