"""Options that say which executions, for the commands that have them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from fleet.cli.executions.target import labels
from fleet.problem import Problem

if TYPE_CHECKING:
    from node.client.requests import Filters


class StatusChoice(StrEnum):
    """How an execution stands."""

    RUNNING = "running"
    QUEUED = "queued"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TERMINATED = "terminated"
    DIVERGED = "diverged"
    PARKED = "parked"


_MOMENT = "A time such as 2h-ago or 2026-01-31T12:00:00Z."
StatusOption = Annotated[
    list[StatusChoice] | None, typer.Option("--status", help="Only these; repeatable.")
]
WorkflowOption = Annotated[
    list[str] | None, typer.Option("--workflow", help="Only of this workflow; repeatable.")
]
LabelFilter = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="NAME=VALUE", help="Only with this label; repeatable."),
]
IdPrefix = Annotated[str | None, typer.Option("--id-prefix", help="Only ids that begin with this.")]
Parent = Annotated[
    str | None, typer.Option("--parent", metavar="ID", help="Only those that this one started.")
]
QueueOption = Annotated[str | None, typer.Option("--queue", help="Only of this queue.")]
AppVersion = Annotated[
    str | None,
    typer.Option("--app-version", help="Only those that the application started as this version."),
]
Failures = Annotated[
    bool | None,
    typer.Option(help="Only those that failed, or a step of which did; or only the others."),
]
StartedAfter = Annotated[str | None, typer.Option("--started-after", metavar="TIME", help=_MOMENT)]
StartedBefore = Annotated[
    str | None, typer.Option("--started-before", metavar="TIME", help=_MOMENT)
]
ClosedAfter = Annotated[str | None, typer.Option("--closed-after", metavar="TIME", help=_MOMENT)]
ClosedBefore = Annotated[str | None, typer.Option("--closed-before", metavar="TIME", help=_MOMENT)]


def filters(
    status: Iterable[StatusChoice] | None,
    workflow: Iterable[str] | None,
    label: Iterable[str] | None,
    moments: dict[str, str | None],
    **others: Any,
) -> Filters:
    """What the options say, as the client takes it. Raises Problem, BadParameter."""
    given: dict[str, Any] = {key: value for key, value in others.items() if value is not None}
    if status:
        given["status"] = [one.value for one in status]
    if workflow:
        given["workflow"] = list(workflow)
    if label:
        given["labels"] = labels(label)
    given |= {key: _unix(text) for key, text in moments.items() if text is not None}
    return cast("Filters", given)


def _unix(text: str) -> float:
    from fleet.moments import parse_moment
    from restore.moment import AtTime

    now = time.time()
    moment = parse_moment(text, now)
    if isinstance(moment, AtTime):
        return moment.at
    if text.strip() == "now":
        return now
    raise Problem("bad_moment", f"{text!r} is no time.", "Use 2h-ago, or 2026-01-31T12:00:00Z.")
