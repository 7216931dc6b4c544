"""When the ticks of a schedule are: cron expressions in a time zone, or a fixed interval.

Moments are unix milliseconds. Nothing here knows what time it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Final, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from node.engine.errors import BadSchedule

#: What some expressions are called, too.
NICKNAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIELDS: Final = (
    "It has five fields: minute, hour, day of the month, month, day of the week; such as"
    " '30 9 * * mon-fri', or @hourly, @daily, @weekly, @monthly or @yearly."
)
#: From here on, an expression without a tick in 50 years has none.
_ORIGIN: Final = datetime(2026, 1, 1, tzinfo=UTC)


class Timing(Protocol):
    """When the ticks are."""

    def after(self, at: int) -> int | None:
        """The first tick after a moment; None when there is none."""


@dataclass(frozen=True, slots=True)
class Every:
    """A tick every `seconds`, one of them at `anchor` (unix seconds), before which there are
    others."""

    seconds: int
    anchor: int = 0

    def after(self, at: int) -> int:
        period, anchor = self.seconds * 1000, self.anchor * 1000
        return anchor + ((at - anchor) // period + 1) * period


@dataclass(frozen=True, slots=True)
class Cron:
    """A tick at every moment that one of the expressions names in the time zone.

    Where the clocks change, it is as Debian's cron has it: a tick at a fixed time that is left
    out comes right after the gap, one at a time that comes twice comes the first time only, and
    one in every hour or minute comes in every hour or minute that there is.
    """

    expressions: tuple[str, ...]
    zone: str = "UTC"

    def after(self, at: int) -> int | None:
        found = [_after(one, self.zone, at) for one in self.expressions]
        return min((moment for moment in found if moment is not None), default=None)


def cron_of(expressions: tuple[str, ...], zone: str) -> Cron:
    """Checked. Raises BadSchedule."""
    zone_of(zone)
    if not expressions:
        raise BadSchedule("there is no cron expression", hint=_FIELDS)
    for expression in expressions:
        _check(expression)
    return Cron(expressions, zone)


@lru_cache(maxsize=256)
def zone_of(name: str) -> tzinfo:
    """A time zone by its IANA name. Raises BadSchedule."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadSchedule(
            f"{name!r} is no time zone that is known here",
            hint="Name one as in the IANA database, such as 'Europe/Paris' or 'UTC'.",
        ) from None


def _check(expression: str) -> None:
    words = NICKNAMES.get(expression.strip().lower(), expression)
    why = f"{len(words.split())} fields instead of five"
    try:
        if len(words.split()) == 5:
            next(CronSim(words, _ORIGIN))
            return
    except StopIteration:
        why = "it never comes"
    # The others are what its parser does with a few ill-formed ones.
    except (CronSimError, AssertionError, TypeError, ValueError) as error:
        why = str(error).lower() or "it cannot be read"
    raise BadSchedule(f"{expression!r} is no cron expression: {why}", hint=_FIELDS)


def _after(expression: str, zone: str, at: int) -> int | None:
    words = NICKNAMES.get(expression.strip().lower(), expression)
    start = datetime.fromtimestamp(at // 1000, zone_of(zone))
    try:
        for when in CronSim(words, start):
            moment = round(when.timestamp()) * 1000
            # Of two times in the gap, both come right after it; from within the hour that comes
            # twice, those of its first pass are found again.
            if moment > at:
                return moment
    except (OverflowError, ValueError):
        return None
    return None
