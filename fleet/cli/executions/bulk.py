"""`litefleet exec bulk`."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from fleet import DEFAULT_NAME, console
from fleet.cli.executions.filters import (
    AppVersion,
    ClosedAfter,
    ClosedBefore,
    Failures,
    IdPrefix,
    LabelFilter,
    Parent,
    QueueOption,
    StartedAfter,
    StartedBefore,
    StatusOption,
    WorkflowOption,
    filters,
)
from fleet.cli.executions.target import (
    AckOption,
    Target,
    Tenant,
    Url,
    loose_value,
    shown,
)
from fleet.cli.options import Address, Json, Name
from fleet.cli.tables import table

if TYPE_CHECKING:
    from node.api_models_finding import BulkItem

app = typer.Typer()


class Action(StrEnum):
    """What is done to each."""

    CANCEL = "cancel"
    TERMINATE = "terminate"
    PAUSE = "pause"
    RESUME = "resume"
    RETRY = "retry"
    SIGNAL = "signal"


@app.command()
def bulk(
    action: Annotated[Action, typer.Argument(help="What to do to each.")],
    status: StatusOption = None,
    workflow: WorkflowOption = None,
    label: LabelFilter = None,
    id_prefix: IdPrefix = None,
    parent: Parent = None,
    queue: QueueOption = None,
    app_version: AppVersion = None,
    failures: Failures = None,
    started_after: StartedAfter = None,
    started_before: StartedBefore = None,
    closed_after: ClosedAfter = None,
    closed_before: ClosedBefore = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Really all of them, where no filter is given.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Of a cancel or terminate; kept in the log.")] = "",
    signal: Annotated[str | None, typer.Option(help="The signal's name.")] = None,
    value: Annotated[
        str | None, typer.Option(metavar="JSON", help="The signal's value: JSON, or else text.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say which ones it would be.")
    ] = False,
    tenant: Tenant = None,
    url: Url = None,
    ack: AckOption = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Cancel, terminate, pause, resume, retry or signal every execution that is found.

    Exit code 1 if it could not be done to one of them; the others are done.
    """
    wanted = filters(
        status,
        workflow,
        label,
        {
            "started_after": started_after,
            "started_before": started_before,
            "closed_after": closed_after,
            "closed_before": closed_before,
        },
        id_prefix=id_prefix,
        parent=parent,
        queue=queue,
        version=app_version,
        failures=failures,
    )
    given = None if value is None else loose_value(value)
    with Target.of(tenant, url, name, address, ack).open() as client:
        done = client.bulk(
            action.value,
            reason=reason,
            signal=signal,
            value=given,
            all=everything,
            dry_run=dry_run,
            **wanted,
        )
        items = list(done)
    if as_json:
        console.print_json({"items": [shown(one) for one in items]})
    else:
        _show(items, action, dry_run)
    if any(one.error is not None for one in items):
        raise typer.Exit(1)


def _show(items: list[BulkItem], action: Action, dry_run: bool) -> None:
    rows = table("id", "workflow", "status", "" if dry_run else "what came of it")
    for one in items:
        came = "" if dry_run else "done" if one.changed else "nothing to do"
        rows.add_row(
            one.id, one.workflow, one.status, came if one.error is None else one.error.message
        )
    console.show(rows)
    changed = sum(one.changed for one in items)
    what = "would be done to" if dry_run else "done to"
    console.note(f"{action} {what} {len(items) if dry_run else changed} of {len(items)}")
