"""How people name a moment of a tenant's past."""

from __future__ import annotations

import re
from datetime import datetime

from fleet.problem import Problem
from restore.moment import AtBookmark, AtTime, Moment, Now

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|w)(?:-|\s+)ago")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_BOOKMARK = re.compile(r"(\d+):(\d+)")


def parse_moment(text: str, now: float) -> Moment:
    """`now`, `90s-ago`, `2h-ago`, an ISO 8601 time with its zone, or a bookmark `epoch:sequence`.

    `now` is in unix seconds. Raises Problem for anything else, and for a time to come.
    """
    wanted = text.strip()
    if wanted == "now":
        return Now()
    if match := _BOOKMARK.fullmatch(wanted):
        return AtBookmark(int(match[1]), int(match[2]))
    if match := _AGO.fullmatch(wanted):
        return AtTime(now - float(match[1]) * _SECONDS[match[2]])
    try:
        at = datetime.fromisoformat(wanted)
    except ValueError:
        raise Problem(
            "bad_moment",
            f"{text!r} is no moment.",
            "Use now, 90s-ago, 2h-ago, 2026-01-31T12:00:00+00:00, or a bookmark such as 3:1712.",
        ) from None
    if at.tzinfo is None:
        raise Problem(
            "bad_moment",
            f"{text!r} has no time zone.",
            "Add one: Z for UTC, or +01:00.",
        )
    if at.timestamp() > now:
        raise Problem("bad_moment", f"{text!r} is still to come.", "Use a time that has passed.")
    return AtTime(at.timestamp())
