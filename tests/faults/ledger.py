"""What the outside was told, kept outside, and how a log is compared with it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from node.engine import schema, seals
from node.engine.errors import LogRefused
from node.engine.inspection import opened

STEPS = 3
"""Rows of an execution whose start is acknowledged: a start alone would show little."""


@dataclass
class Ledger:
    """What the outside was told. Times are in seconds of the monotonic clock."""

    acknowledged: dict[str, float] = field(default_factory=dict)
    results: set[str] = field(default_factory=set)
    """Executions whose result was given as durable: their rows were, too."""
    unknown: int = 0
    """Starts that were answered with anything else than durable."""
    proven: dict[int, int] = field(default_factory=dict)
    """The newest position of each epoch that a node told was proven: what leases would have."""


def wrong_rows(database: Path, ledger: Ledger) -> set[str]:
    """Executions whose result was durable and whose rows in this file are not what they booked."""
    with closing(schema.connect_copy(database)) as db:
        found: dict[str, list[int]] = {}
        with contextlib.suppress(apsw.SQLError):  # a log from before the first row has no table
            rows: Any = db.execute("SELECT execution, number FROM booked ORDER BY rowid")
            for execution, number in rows:
                found.setdefault(execution, []).append(number)
    return mismatched(found, ledger)


def mismatched(found: Mapping[str, list[int]], ledger: Ledger) -> set[str]:
    """Executions with rows that are missing, too many, or in another order."""
    return {name for name in ledger.results if found.get(name) != list(range(STEPS))}


@dataclass(frozen=True, slots=True)
class End:
    """The end of a lost machine's own log: what there was to lose."""

    log: Path
    sequence: int
    at: float
    """When its last event was committed, in unix seconds."""

    def beyond(self, sequence: int) -> tuple[int, float]:
        """Events that a log which ends at ``sequence`` has not, and for how many seconds of
        commits it is behind."""
        if sequence >= self.sequence:
            return 0, 0.0
        with opened(self.log, closed=True) as db:
            at = seals.time_at(db, schema.version_of(db, self.log), sequence)
        return self.sequence - sequence, 0.0 if at is None else max(0.0, self.at - at / 1000)


def end_of(log: Path) -> End | None:
    """The end of a log whose node is dead; None where there is none that can be read."""
    if not log.exists():
        return None
    try:
        with opened(log, closed=True) as db:
            last = seals.newest(db, schema.version_of(db, log))[0]
    except (LogRefused, IndexError):
        return None
    return End(log, last.sequence, last.at / 1000)


def commits_a_second(log: Path) -> float:
    """Commits in a second of a log's life, on the average; 0 where it cannot be read."""
    try:
        with opened(log, closed=True) as db:
            times = [end.at for end in seals.ends(db, schema.version_of(db, log))][1:]
    except LogRefused:
        return 0.0
    span = (times[-1] - times[0]) / 1000 if times else 0.0
    return len(times) / span if span > 0 else 0.0
