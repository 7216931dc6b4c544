"""Queues that an application declares: how many executions may be under way, and how often
one may begin."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from node.engine.definition import named
from node.engine.errors import DefinitionError
from node.engine.queue_line import Limits

#: What a start does whose deduplication key is taken.
Duplicates = Literal["existing", "reject"]


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` in any `per` seconds."""

    count: int
    per: float | timedelta

    def __post_init__(self) -> None:
        if self.count < 1 or self.milliseconds < 1:
            raise DefinitionError("Rate: count is at least 1, per at least a millisecond")

    @property
    def milliseconds(self) -> int:
        """The length of its window."""
        seconds = self.per.total_seconds() if isinstance(self.per, timedelta) else self.per
        return round(seconds * 1000)


class Queue:
    """A line in which executions, or the attempts of activities, wait for their turn.

    `concurrency` bounds how many have it at once, `rate` how often one gets it; the limits of
    a partition (`partition_concurrency`, `partition_rate`) count for each partition by itself,
    such as one customer. `duplicates` says what a start does whose deduplication key belongs
    to an execution that is queued or running: give that one (`existing`), or refuse (`reject`).

    Declared at the top level of an application. Other limits hold from the next start of the
    engine on, for what waits and runs then, too. Raises DefinitionError.
    """

    def __init__(
        self,
        name: str,
        *,
        concurrency: int | None = None,
        rate: Rate | None = None,
        partition_concurrency: int | None = None,
        partition_rate: Rate | None = None,
        duplicates: Duplicates = "existing",
    ) -> None:
        self.name = named(name, "queue")
        for bound in (concurrency, partition_concurrency):
            if bound is not None and bound < 1:
                raise DefinitionError(
                    f"queue {name}: concurrency is at least 1",
                    hint="To let nothing go for a while, pause the queue.",
                )
        if duplicates not in ("existing", "reject"):
            raise DefinitionError(f"queue {name}: duplicates is 'existing' or 'reject'")
        self.concurrency = concurrency
        self.rate = rate
        self.partition_concurrency = partition_concurrency
        self.partition_rate = partition_rate
        self.duplicates = duplicates

    @property
    def limits(self) -> Limits:
        """What holds for the queue as a whole."""
        return _limits(self.concurrency, self.rate)

    @property
    def partition_limits(self) -> Limits:
        """What holds for each of its partitions."""
        return _limits(self.partition_concurrency, self.partition_rate)


def _limits(concurrency: int | None, rate: Rate | None) -> Limits:
    return (
        Limits(concurrency) if rate is None else Limits(concurrency, rate.count, rate.milliseconds)
    )
