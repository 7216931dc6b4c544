"""How often Litestream looks after a replica: often while the tenant writes, seldom while it idles.

Each tick of a compaction level and each check of level 0 is a list that somebody pays for, whether
or not anything was written; and each second of writing (or each barrier) since the first level's
last tick is one more object that a restore has to fetch. So there are two paces, and the sidecar is
started anew to change from one to the other: Litestream 0.5.17 reads its intervals only then.
docs/explanation/cost.md has the figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

IDLE_AFTER: Final = 600.0
"""Seconds without a commit after which a tenant counts as idle."""
BUSY_AFTER: Final = 20.0
"""Seconds over which an idle tenant must have gone on committing to count as busy: an awake one
that does a little now and then stays cheap."""
GAP: Final = 60.0
"""Seconds without a commit after which going on begins anew."""


class Pace(StrEnum):
    """How busy the sidecar keeps itself."""

    BUSY = "busy"
    IDLE = "idle"


@dataclass(frozen=True, slots=True)
class Intervals:
    """What a pace means, as Go durations: `backup.litestream.config` says which keys these are."""

    levels: tuple[str, ...]
    l0_retention: str
    l0_retention_check: str


INTERVALS: Final = {
    Pace.BUSY: Intervals(("30s", "5m", "1h"), "5m", "1m"),
    Pace.IDLE: Intervals(("10m", "1h"), "15m", "15m"),
}


class Pacing:
    """Decides the pace from commits. Seconds are those of any one clock."""

    def __init__(self, now: float) -> None:
        self.pace = Pace.BUSY
        self._sequence = -1
        self._changed = now
        self._going_on_since = now

    def seen(self, sequence: int, now: float) -> Pace:
        """The pace that fits, given that the log ends at ``sequence`` now."""
        if sequence != self._sequence:
            if now - self._changed > GAP:
                self._going_on_since = now
            self._sequence, self._changed = sequence, now
        if now - self._changed >= IDLE_AFTER:
            self.pace = Pace.IDLE
        elif self._changed - self._going_on_since >= BUSY_AFTER and now - self._changed <= GAP:
            self.pace = Pace.BUSY
        return self.pace
