"""`litefleet exec list`, `count`, `show`, `log`, `waiting` and `export`."""

from __future__ import annotations

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    Id,
    Target,
    Tenant,
    Url,
    clock,
    error_words,
    shown,
    words,
)
from fleet.cli.options import Address, Json, Name
from fleet.cli.tables import details, table
from fleet.problem import Problem

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer()


@app.command("list")
def list_(
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
    newest: Annotated[bool, typer.Option("--newest", help="The newest first.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    tenant: Tenant = None,
    url: Url = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """List executions in the order of their start."""
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
    with Target.of(tenant, url, name, address, None).open() as client:
        items = [shown(one) for one in client.executions(newest=newest, limit=limit, **wanted)]
    if as_json:
        console.print_json({"items": items})
        return
    rows = table("id", "workflow", "status", "started", "took", "labels", right=("took",))
    for one in items:
        standing = one["status"] + (", paused" if one.get("paused") else "")
        took = "" if one["closed_at"] is None else console.age(one["closed_at"] - one["started_at"])
        tags = ", ".join(f"{key}={value}" for key, value in one.get("labels", {}).items())
        rows.add_row(
            one["id"], one["workflow"], standing, clock(one["started_at"]), took, words(tags)
        )
    console.show(rows)
    if len(items) == limit:
        console.note(f"the first {limit}; more with --limit")


class Apart(StrEnum):
    """What executions are counted by."""

    STATUS = "status"
    WORKFLOW = "workflow"


@app.command()
def count(
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
    by: Annotated[
        list[Apart] | None, typer.Option("--by", help="Count these apart; by default both.")
    ] = None,
    tenant: Tenant = None,
    url: Url = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Count executions."""
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
    apart = [one.value for one in by or Apart]
    with Target.of(tenant, url, name, address, None).open() as client:
        found = client.count(*apart, **wanted)
    if as_json:
        console.print_json(shown(found))
        return
    rows = table(*apart, "executions", right=("executions",))
    for item in found.items:
        rows.add_row(*(str(getattr(item, one)) for one in apart), str(item.count))
    console.show(rows)
    console.note(f"{found.total} in all")


@app.command()
def show(
    id: Id,
    tenant: Tenant = None,
    url: Url = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Show one execution."""
    with Target.of(tenant, url, name, address, None).open() as client:
        one = shown(client.handle(id).show())
    if as_json:
        console.print_json(one)
        return
    rows = {
        "id": one["id"],
        "workflow": one["workflow"],
        "status": one["status"] + (", paused" if one.get("paused") else ""),
        "started": clock(one["started_at"]),
        "closed": clock(one["closed_at"]),
        "version": str(one.get("version") or ""),
        "input": words(one["input"], 2000),
        "labels": ", ".join(f"{key}={value}" for key, value in one["labels"].items()),
        "durable": "yes" if one["durable"] else "not proven",
        "bookmark": one["bookmark"],
    }
    if "result" in one:
        rows["result"] = words(one["result"], 2000)
    if "error" in one:
        rows["error"] = error_words(one["error"])
    console.show(details({key: value for key, value in rows.items() if value}))


@app.command()
def log(
    id: Id,
    tenant: Tenant = None,
    url: Url = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Show what the log holds of one execution."""
    with Target.of(tenant, url, name, address, None).open() as client:
        items = [shown(one) for one in client.handle(id).events()]
    if as_json:
        console.print_json({"items": items})
        return
    rows = table("event", "at", "kind", "step", "payload", right=("event",))
    for one in items:
        step = one["step"] + (f" #{one['occurrence']}" if one["occurrence"] > 1 else "")
        payload = "" if one.get("payload") is None else words(one["payload"])
        rows.add_row(str(one["sequence"]), clock(one["at"]), one["kind"], step, payload)
    console.show(rows)


@app.command()
def waiting(
    id: Id,
    tenant: Tenant = None,
    url: Url = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Show what an execution waits for, since when, and what will wake it."""
    with Target.of(tenant, url, name, address, None).open() as client:
        answer = shown(client.handle(id).waiting())
    if as_json:
        console.print_json(answer)
    elif not answer["items"]:
        console.note(f"{id} waits for nothing")
    else:
        console.show(_waits(answer["items"]))


def _waits(items: list[dict[str, Any]]) -> Table:
    rows = table("waits for", "name", "since", "until", "what wakes it", "detail")
    for one in items:
        until = one["until"]
        left = "" if until is None else f"{max(0.0, until - time.time()):.0f} s more"
        detail = words(one["detail"]) if one["detail"] else ""
        rows.add_row(one["kind"], one["name"], clock(one["since"]), left, one["wakes"], detail)
    return rows


@app.command()
def export(
    id: Id,
    to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to; stdout by default.")
    ] = None,
    tenant: Tenant = None,
    url: Url = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Write one execution with its whole log to a file that `litefleet replay` takes.

    The file holds what the execution's tokens are made with: treat it as its data.
    """
    if to is not None and to.exists():
        raise Problem("exists", f"{to} exists.", "Name another file, or remove it first.")
    with Target.of(tenant, url, name, address, None).open() as client:
        archive = client.handle(id).archive().model_dump(mode="json")
    if to is None:
        console.print_json(archive)
        return
    to.write_text(json.dumps(archive, indent=1) + "\n", encoding="utf-8")
    about = {"file": str(to), "execution": id, "events": len(archive["rows"])}
    if as_json:
        console.print_json(about)
    else:
        console.note(f"{about['events']} events of {id} are in {to}")
