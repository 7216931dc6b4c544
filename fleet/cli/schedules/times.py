"""How people give durations and moments to a schedule, and how they are shown."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from typing import Annotated, Any, Final

import typer

from fleet.cli.executions.target import Target

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION: Final = re.compile(r"(\d+)\s*([smhdw]?)")


def duration(text: str) -> int:
    """Seconds: `90`, `90s`, `15m`, `2h`, `1d`, `1w`. Raises BadParameter."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is no duration; write 90s, 15m, 2h, 1d or 1w")
    return int(match[1]) * _UNITS[match[2] or "s"]


def past(text: str) -> float:
    """A moment of the past in unix seconds: `now`, `2h-ago`, or ISO 8601 with its zone. Raises
    Problem, BadParameter."""
    from fleet.moments import parse_moment
    from restore.moment import AtTime, Now

    now = time.time()
    moment = parse_moment(text, now)
    if isinstance(moment, Now):
        return now
    if isinstance(moment, AtTime):
        return moment.at
    raise typer.BadParameter(f"{text!r} is a bookmark; name a time")


def spoken(seconds: float) -> str:
    """A duration as it would be given."""
    for unit in ("w", "d", "h", "m"):
        if seconds >= _UNITS[unit] and seconds % _UNITS[unit] == 0:
            return f"{seconds // _UNITS[unit]:.0f}{unit}"
    return f"{seconds:.0f}s"


def when(spec: dict[str, Any]) -> str:
    """When a schedule's ticks are, in words."""
    if spec["cron"] is None:
        return f"every {spoken(spec['every'])}"
    zone = "" if spec["time_zone"] == "UTC" else f" {spec['time_zone']}"
    return "; ".join(spec["cron"]) + zone


def complete_id(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids of schedules that begin so. Nothing where there is nobody to ask."""
    with suppress(Exception):
        given = ctx.params
        target = Target.of(
            given.get("tenant"), given.get("url"), given.get("name"), given.get("address"), None
        )
        with target.schedules() as schedules:
            ids = [str(one["id"]) for one in schedules.list()["items"]]
        return [id for id in ids if id.startswith(incomplete)]
    return []


Id = Annotated[str, typer.Argument(help="The schedule's id.", autocompletion=complete_id)]
