"""A clock that stands still until it is told to jump."""

from __future__ import annotations

from datetime import UTC, datetime


class SkippingClock:
    """Unix time that moves only by `jump`. Called, it gives unix seconds."""

    def __init__(self, now: datetime) -> None:
        """Raises ValueError for a datetime without a time zone."""
        if now.utcoffset() is None:
            raise ValueError("the clock begins at a datetime with a time zone")
        # In milliseconds, as the log has it, so that no deadline is missed by a rounding.
        self.milliseconds = round(now.timestamp() * 1000)

    def __call__(self) -> float:
        # A hair above, since what reads it cuts off fractions of a millisecond.
        return (self.milliseconds + 0.25) / 1000

    @property
    def now(self) -> datetime:
        """The time, in UTC."""
        return datetime.fromtimestamp(self.milliseconds / 1000, UTC)

    def jump(self, to: float) -> None:
        """Go to `to`, in unix seconds; never back."""
        self.milliseconds = max(self.milliseconds, round(to * 1000))
