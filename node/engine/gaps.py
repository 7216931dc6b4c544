"""What a closed log says was removed from it, and whether that can be so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import apsw

from node.engine.events import GOING
from node.engine.gone import read_counts
from node.engine.record import Record
from node.engine.removed import Fingerprint, Range, Removed
from node.engine.schema import fetch_all


@dataclass(frozen=True)
class Gaps:
    """The tables of removed.py, read."""

    ranges: list[Range]
    rests: dict[int, bytes]
    _db: apsw.Connection
    _removed: Removed
    _known: bool

    @staticmethod
    def read(db: apsw.Connection, version: int) -> Gaps:
        """Those of a log of this version. An older one has none."""
        if version < 3:
            return Gaps([], {}, db, Removed([]), False)
        rows = fetch_all(db, "SELECT first, last FROM litefleet_removed ORDER BY first")
        ranges = [Range(*row) for row in rows]
        rests = dict(fetch_all(db, "SELECT sequence, sum FROM litefleet_rest"))
        return Gaps(ranges, rests, db, Removed(ranges), True)

    def between(self, low: int, high: int) -> bool:
        """Whether anything was removed after `low` and before `high`."""
        return self._removed.between(low, high)

    def check(self, genesis: bytes, keys: Mapping[int, Any], record: Record | None) -> None:
        """The chain's own word for what was removed, and everything that came of it. `keys` are
        the executions by their row numbers. Raises ValueError, KeyError, TypeError."""
        if not self._known:
            return
        said = record or Record()
        prints = Fingerprint(genesis)
        if said.events != sum(one.size for one in self.ranges) or (
            int(said.sum, 16) != prints.add(0, self.ranges)
        ):
            raise ValueError("what is said to be removed is not what the log has recorded")
        held = [row[0] for row in fetch_all(self._db, "SELECT execution FROM litefleet_hold")]
        if int(said.held, 16) != prints.add(0, [Range(one, one) for one in held]):
            raise ValueError("the executions that are held are not those that are recorded")
        if not set(held) <= keys.keys():
            raise ValueError("an execution is held that is not there")
        going = {rowid for rowid, (*_, status) in keys.items() if status == GOING}
        if going != set(said.going):
            raise ValueError("the executions that are going are not those that are recorded")
        for execution, sequence in fetch_all(
            self._db, "SELECT DISTINCT execution, sequence FROM litefleet_offset"
        ):
            found = fetch_all(
                self._db, "SELECT execution FROM litefleet_event WHERE sequence = ?", (sequence,)
            )
            if found != [(execution,)]:
                raise ValueError(f"lengths of streams are kept for event {sequence}, wrongly")
        for run, counts, until in fetch_all(
            self._db, "SELECT run, counts, until FROM litefleet_gone"
        ):
            if run < 0 or until < 0 or min(read_counts(counts).values(), default=1) < 1:
                raise ValueError("it does not say how a removed execution had counted")
