"""`litefleet exec list`, `count`, `show`, `log`, `waiting` and `versions`."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Annotated, Any

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
    complete_id,
    error_words,
    origin_words,
    shown,
    words,
)
from fleet.cli.executions.waits import seconds_of, stack_words, tree_of
from fleet.cli.options import Address, Json, Name
from fleet.cli.tables import details, table

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
    forks = any(one.get("forked_from") for one in items)
    more = ["made from"] if forks else []
    columns = ("id", "workflow", "status", "version", "started", "took", "labels")
    rows = table(*columns, *more, right=("took",))
    for one in items:
        standing = one["status"] + (", paused" if one.get("paused") else "")
        took = "" if one["closed_at"] is None else console.age(one["closed_at"] - one["started_at"])
        tags = ", ".join(f"{key}={value}" for key, value in one.get("labels", {}).items())
        begun, tags = clock(one["started_at"]), words(tags)
        cells = [one["id"], one["workflow"], standing, _version(one), begun, took, tags]
        rows.add_row(*cells, *([origin_words(one.get("forked_from"))] if forks else []))
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
    with Target.of(tenant, url, name, address, None).executions() as executions:
        one = executions.show(id)
        waits = [] if as_json or one["closed_at"] else executions.waits(id)["items"]
    if as_json:
        console.print_json(one)
        return
    rows = {
        "id": one["id"],
        "workflow": one["workflow"],
        "status": one["status"] + (", paused" if one.get("paused") else ""),
        "started": clock(one["started_at"]),
        "closed": clock(one["closed_at"]),
        "version": _version(one),
        "began with": str(one.get("version") or ""),
        "forked from": origin_words(one.get("forked_from")),
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
    if waits:
        console.show(tree_of({"id": "waits for"}, waits, time.time()))


def _version(one: dict[str, Any]) -> str:
    """The version that an open execution runs on; that with which a closed one began."""
    open_ = one["closed_at"] is None
    words = str((one.get("runs_on") if open_ else one.get("version")) or "")
    return f"{words}, pinned" if one.get("pinned") else words


@app.command()
def versions(
    tenant: Tenant = None,
    url: Url = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Show the versions of the application, and how many open executions need each."""
    with Target.of(tenant, url, name, address, None).executions() as executions:
        answer = executions.versions()
    if as_json:
        console.print_json(answer)
        return
    rows = table("version", "", "open", "pinned", right=("open", "pinned"))
    for one in answer["items"]:
        standing = "current" if one["current"] else "kept" if one["loaded"] else "waited for"
        if standing == "kept" and not one["open"]:
            standing = "kept, needed by none"
        rows.add_row(one["version"] or "(none)", standing, str(one["open"]), str(one["pinned"]))
    console.show(rows)


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
    id: Annotated[
        str | None,
        typer.Argument(
            help="The execution's id; without one, all that are open.", autocompletion=complete_id
        ),
    ] = None,
    longer_than: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only those that nothing came of for 90s, 15m, 2h, 1d."),
    ] = None,
    kind: Annotated[str | None, typer.Option(help="Only those that wait for such a thing.")] = None,
    workflow: Annotated[str | None, typer.Option(help="Only of this workflow.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the oldest first.")] = 100,
    tenant: Tenant = None,
    url: Url = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Show what executions wait for, since when, and what will wake them."""
    if id is not None and (longer_than or kind or workflow):
        raise typer.BadParameter("--longer-than, --kind and --workflow are for a list, without ID")
    pause = None if longer_than is None else seconds_of(longer_than)
    with Target.of(tenant, url, name, address, None).executions() as executions:
        if id is not None:
            answer = executions.waits(id)
        else:
            answer = {"items": list(executions.all_waits(kind, workflow, pause, limit))}
    if as_json:
        console.print_json(answer)
    elif id is None:
        for one in answer["items"]:
            console.show(tree_of(one, one["waits"], time.time()))
        if not answer["items"]:
            console.note("no open execution is like that")
    elif not answer["items"]:
        console.note(f"{id} waits for nothing")
    else:
        console.show(tree_of({"id": id}, answer["items"], time.time()))
        console.show(stack_words(answer.get("stack", [])))
