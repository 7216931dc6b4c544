"""Who has a turn, who waits for one, and who is next. Knows no clock and does nothing.

What waits is in heaps: one for each partition, by priority and then by number, and one of the
partitions themselves. An entry that no longer counts is not searched for in its heap; it is
passed over when it comes up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Final, Generic, NamedTuple, TypeVar

T = TypeVar("T", bound=Hashable)
#: So many entries that do not count may be left in a heap beside those that do.
_SLACK: Final = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """At most `concurrency` turns at once, and at most `count` begun in any `per` milliseconds.
    None and 0 are no limit."""

    concurrency: int | None = None
    count: int = 0
    per: int = 0


NO_LIMITS: Final = Limits()


class Gate:
    """How much is taken of one set of limits."""

    __slots__ = ("limits", "running", "times")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.running = 0
        self.times: deque[int] = deque(maxlen=limits.count)
        """When the newest turns began, unix milliseconds; as many as the rate counts."""

    def opens(self) -> int | None:
        """When time lets the next one go, 0 for at once; None when somebody must end first."""
        limits = self.limits
        if limits.concurrency is not None and self.running >= limits.concurrency:
            return None
        if limits.count and len(self.times) == limits.count:
            return self.times[0] + limits.per
        return 0

    def began(self, at: int) -> None:
        """A turn began, which counts for the rate."""
        if self.limits.count:
            self.times.append(at)

    def idle(self, now: int) -> bool:
        """Whether it can be forgotten."""
        newest = self.times[-1] if self.times else 0
        return not self.running and newest + self.limits.per <= now


class Waiting(NamedTuple):
    """How one waits: by priority, then by number. `entry` says which entry of a heap is its."""

    priority: int
    number: int
    partition: str | None
    entry: int


class Offer(NamedTuple):
    """The first one of a partition, in the order in which they go: within a priority, the
    partition goes first whose last turn is the longest ago."""

    priority: int
    turn: int
    number: int
    opens: int
    """When the partition's own limits let it go."""


class Part(Generic[T]):
    """One partition. `turn` says when it had its last turn, counted in turns of the queue."""

    __slots__ = ("gate", "heap", "offer", "turn", "waiting")

    def __init__(self, limits: Limits, turn: int) -> None:
        self.gate = Gate(limits)
        self.heap: list[tuple[int, int, int, T]] = []
        self.waiting = 0
        self.turn = turn
        self.offer: Offer | None = None


class Choice(NamedTuple, Generic[T]):
    """Who has the next turn, or when to look again (unix milliseconds) if time alone will let
    somebody go."""

    item: T | None
    look_at: int | None


class Line(Generic[T]):
    """One queue, and who has a turn of it. Times in unix milliseconds."""

    def __init__(self, limits: Limits = NO_LIMITS, partition_limits: Limits = NO_LIMITS) -> None:
        self.gate = Gate(limits)
        self._partition_limits = partition_limits
        self._waiting: dict[T, Waiting] = {}
        self._running: dict[T, str | None] = {}
        self._parts: dict[str | None, Part[T]] = {}
        self._ready: list[tuple[Offer, str | None]] = []
        self._later: list[tuple[int, Offer, str | None]] = []
        self._turns = 0
        self._entries = 0

    # What happens -----------------------------------------------------------------------------

    def add(self, item: T, priority: int, number: int, partition: str | None = None) -> None:
        """It waits for a turn."""
        self._entries += 1
        self._waiting[item] = Waiting(priority, number, partition, self._entries)
        part = self._part(partition)
        part.waiting += 1
        heappush(part.heap, (priority, number, self._entries, item))
        self._offer(partition, part)

    def discard(self, item: T) -> bool:
        """It waits no more; False when it did not."""
        waiting = self._waiting.pop(item, None)
        if waiting is None:
            return False
        part = self._part(waiting.partition)
        part.waiting -= 1
        if len(part.heap) > 2 * part.waiting + _SLACK:
            part.heap = [entry for entry in part.heap if self._counts(entry)]
            heapify(part.heap)
        self._offer(waiting.partition, part)
        return True

    def runs(self, item: T, partition: str | None = None) -> None:
        """It has a turn already."""
        part = self._part(partition)
        self._running[item] = partition
        self.gate.running += 1
        part.gate.running += 1
        self._offer(partition, part)

    def ended(self, item: T) -> bool:
        """Its turn is over; False when it had none."""
        if item not in self._running:
            return False
        partition = self._running.pop(item)
        part = self._part(partition)
        self.gate.running -= 1
        part.gate.running -= 1
        self._offer(partition, part)
        return True

    def began(self, at: int, partition: str | None = None) -> None:
        """A turn began at `at`, which was before anything that is to be chosen now. To be told
        in the order of time."""
        part = self._part(partition)
        self.gate.began(at)
        part.gate.began(at)
        self._offer(partition, part)

    def choose(self, now: int) -> Choice[T]:
        """Give the next one its turn, if somebody waits and every limit lets one go."""
        opens = self.gate.opens()
        if opens is None or not self._waiting:
            return Choice(None, None)
        if opens > now:
            return Choice(None, opens)
        while self._later and self._later[0][0] <= now:
            _, offer, partition = heappop(self._later)
            heappush(self._ready, (offer, partition))
        while self._ready:
            offer, partition = heappop(self._ready)
            if self._stands(offer, partition):
                return Choice(self._take(partition, now), None)
        while self._later:
            at, offer, partition = self._later[0]
            if self._stands(offer, partition):
                return Choice(None, at)
            heappop(self._later)
        return Choice(None, None)

    # What there is ----------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """How many have a turn."""
        return len(self._running)

    def __iter__(self) -> Iterator[T]:
        """Those that wait, in no order."""
        return iter(self._waiting)

    def holders(self) -> Iterator[T]:
        """Those that have a turn, in no order."""
        return iter(self._running)

    def position(self, item: T) -> int:
        """How many of those that wait are before it by priority and number, and itself.

        Takes as long as there are waiting ones. Raises KeyError.
        """
        own = self._waiting[item][:2]
        return 1 + sum(other[:2] < own for other in self._waiting.values())

    def gate_of(self, partition: str | None) -> Gate:
        """What is taken of a partition's own limits."""
        part = self._parts.get(partition)
        return Gate(NO_LIMITS) if part is None else part.gate

    def forget(self, now: int) -> None:
        """Drop the partitions that nobody uses."""
        for name, part in list(self._parts.items()):
            if not part.waiting and part.gate.idle(now):
                del self._parts[name]

    @property
    def partitions(self) -> int:
        """How many partitions are remembered."""
        return len(self._parts)

    # ------------------------------------------------------------------------------------------

    def _part(self, name: str | None) -> Part[T]:
        part = self._parts.get(name)
        if part is None:
            # A new one comes after those that have waited longer for their next turn.
            self._turns += 1
            limits = NO_LIMITS if name is None else self._partition_limits
            part = self._parts[name] = Part(limits, self._turns)
        return part

    def _take(self, name: str | None, now: int) -> T:
        part = self._parts[name]
        item = heappop(part.heap)[3]
        del self._waiting[item]
        part.waiting -= 1
        self._running[item] = name
        for gate in (self.gate, part.gate):
            gate.running += 1
            gate.began(now)
        self._turns += 1
        part.turn = self._turns
        self._offer(name, part)
        return item

    def _counts(self, entry: tuple[int, int, int, T]) -> bool:
        waiting = self._waiting.get(entry[3])
        return waiting is not None and waiting.entry == entry[2]

    def _offer(self, name: str | None, part: Part[T]) -> None:
        """Put the partition where it belongs after something about it has changed."""
        heap = part.heap
        while heap and not self._counts(heap[0]):
            heappop(heap)
        opens = part.gate.opens()
        if not heap or opens is None:
            part.offer = None
            return
        offer = Offer(heap[0][0], part.turn, heap[0][1], opens)
        if offer == part.offer:
            return
        part.offer = offer
        if opens:
            heappush(self._later, (opens, offer, name))
        else:
            heappush(self._ready, (offer, name))
        most = 2 * len(self._parts) + _SLACK
        if len(self._ready) > most:
            self._ready = [each for each in self._ready if self._stands(*each)]
            heapify(self._ready)
        if len(self._later) > most:
            self._later = [each for each in self._later if self._stands(*each[1:])]
            heapify(self._later)

    def _stands(self, offer: Offer, name: str | None) -> bool:
        part = self._parts.get(name)
        return part is not None and part.offer == offer
