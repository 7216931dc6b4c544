"""What an engine counts as it works, so little that it does so whether or not anybody asks."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Final

from node.engine.durability import Outcome as Proven
from node.engine.events import Kind
from node.engine.writer import Batch

#: Seconds; the last bucket takes what is longer.
ATTEMPT_BOUNDS: Final = (0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0)
COMMIT_BOUNDS: Final = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0)
PROOF_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
REPLAY_BOUNDS: Final = (0.0005, 0.001, 0.005, 0.025, 0.1, 0.5, 2.0, 10.0)
#: Up to so many it is quicker to count one by one.
FEW: Final = 8
#: Events.
BATCH_BOUNDS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Histogram:
    """How many of what was added is within each bound, and all of it together."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        return sum(self.counts)


class Tally:
    """The counts of one engine since it was made. Belongs to its loop."""

    def __init__(self) -> None:
        self.names: dict[str, int] = {}
        """The numbers that the log has for names."""
        # As the log has them, by the numbers of kind and name, which are quicker than what they
        # stand for.
        self._events: Counter[tuple[int, int]] = Counter()
        self.attempts: dict[str, Histogram] = {}
        """Seconds of attempts that ended by themselves, by activity."""
        self.commits = Histogram(COMMIT_BOUNDS)
        """Seconds that the log's file took to be synced."""
        self.batches = Histogram(BATCH_BOUNDS)
        """Events of a commit."""
        self.replays = Histogram(REPLAY_BOUNDS)
        """Seconds of the replays of open executions when the log was opened, or one reopened."""
        self.proofs = Histogram(PROOF_BOUNDS)
        """Seconds until the barrier answered."""
        self.proven: dict[Proven, int] = dict.fromkeys(Proven, 0)
        """How it answered."""

    def committed(self, batch: Batch) -> None:
        """A batch is in the log."""
        events, keys = self._events, zip(batch.kinds, batch.names, strict=False)
        if len(batch.kinds) > FEW:
            events.update(keys)
        else:
            for key in keys:
                events[key] = events.get(key, 0) + 1
        self.commits.add(batch.took)
        self.batches.add(batch.last - batch.first + 1)

    def answered(self, outcome: Proven, seconds: float) -> None:
        """The barrier has answered."""
        self.proven[outcome] += 1
        self.proofs.add(seconds)

    def attempt(self, activity: str, seconds: float) -> None:
        """An attempt has ended by itself."""
        histogram = self.attempts.get(activity)
        if histogram is None:
            histogram = self.attempts[activity] = Histogram(ATTEMPT_BOUNDS)
        histogram.add(seconds)

    def of(self, kind: Kind) -> dict[str, int]:
        """How many events of a kind, by name."""
        names = {number: name for name, number in self.names.items()}
        events = list(self._events.items())
        return {names[number]: count for (code, number), count in events if code == kind}

    def kinds(self) -> dict[Kind, int]:
        """How many events of each kind."""
        found = dict.fromkeys(Kind, 0)
        for (code, _), count in list(self._events.items()):
            found[Kind(code)] += count
        return found
