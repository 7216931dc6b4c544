"""How long to wait before a process that has ended is started again."""

from __future__ import annotations

PAUSES = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds before each further restart; the last one repeats."""
STEADY_AFTER = 30.0
"""Seconds of life after which earlier restarts are forgotten."""


class Restarts:
    """Back-off that forgets once a process has lived for a while."""

    def __init__(self) -> None:
        self._short_lives = 0

    def pause_after(self, lived: float) -> float:
        """Seconds to wait after a life of ``lived`` seconds."""
        if lived > STEADY_AFTER:
            self._short_lives = 0
        pause = PAUSES[min(self._short_lives, len(PAUSES) - 1)]
        self._short_lives += 1
        return pause
