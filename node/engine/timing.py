"""When the ticks of a schedule are: cron expressions in a time zone, or a fixed interval.

Moments are unix milliseconds. Nothing here knows what time it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
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
_DAY: Final = 86_400
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
    seconds, where = at // 1000, zone_of(zone)
    try:
        ticks = CronSim(words, datetime.fromtimestamp(seconds, where))
        if where is not UTC and ticks.fixup_tz is None:
            found = _every(words, where, seconds)
            return None if found is None else found * 1000
        for when in ticks:
            moment = round(when.timestamp()) * 1000
            # Of two times in the gap, both come right after it; from within the hour that comes
            # twice, those of its first pass are found again.
            if moment > at:
                return moment
    except (OverflowError, ValueError):
        return None
    return None


def _every(words: str, zone: tzinfo, at: int) -> int | None:
    """The first tick after `at` (unix seconds) of what is meant for every minute or hour.

    From one change of the clocks to the next, local time is a count like any other. Cronsim's own
    way over a change is by whole hours, which not all changes are.
    """
    local, offset = _local(at, zone)
    while True:
        found = next(CronSim(words, local), None)
        if found is None:
            return None
        moment = round((found - offset).replace(tzinfo=UTC).timestamp())
        if _local(moment, zone)[1] == offset:
            return moment
        # The clocks change before that: go on from there, by the new time.
        at = _change(at, zone)
        local, offset = _local(at, zone)
        local -= timedelta(seconds=1)


def _local(at: int, zone: tzinfo) -> tuple[datetime, timedelta]:
    """What the clocks show, and how far before UTC they are."""
    local = datetime.fromtimestamp(at, zone)
    return local.replace(tzinfo=None, fold=0), local.utcoffset() or timedelta()


def _change(at: int, zone: tzinfo) -> int:
    """The first second after `at` at which the clocks change."""
    before = _local(at, zone)[1]
    later = at
    while _local(later, zone)[1] == before:
        at, later = later, later + _DAY
    while later - at > 1:
        middle = (at + later) // 2
        if _local(middle, zone)[1] == before:
            at = middle
        else:
            later = middle
    return later
