"""`litefleet exec list`, `show`, `log` and `waiting`."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet import DEFAULT_NAME, console
from fleet.cli.executions.target import (
    Id,
    Target,
    Tenant,
    Url,
    clock,
    error_words,
    origin_words,
    words,
)
from fleet.cli.options import Address, Json, Name
from fleet.cli.tables import details, table

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer()


class StatusChoice(StrEnum):
    """How an execution stands."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TERMINATED = "terminated"
    DIVERGED = "diverged"


@app.command("list")
def list_(
    status: Annotated[StatusChoice | None, typer.Option(help="Only these.")] = None,
    workflow: Annotated[str | None, typer.Option(help="Only of this workflow.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the oldest first.")] = 100,
    tenant: Tenant = None,
    url: Url = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """List executions in the order of their start."""
    with Target.of(tenant, url, name, address, None).open() as executions:
        wanted = None if status is None else status.value
        items = list(executions.list(wanted, workflow, limit))
    if as_json:
        console.print_json({"items": items})
        return
    forks = any(one.get("forked_from") for one in items)
    more = ["made from"] if forks else []
    rows = table("id", "workflow", "status", "started", "took", *more, right=("took",))
    for one in items:
        standing = one["status"] + (", paused" if one.get("paused") else "")
        took = "" if one["closed_at"] is None else console.age(one["closed_at"] - one["started_at"])
        cells = [one["id"], one["workflow"], standing, clock(one["started_at"]), took]
        rows.add_row(*cells, *([origin_words(one.get("forked_from"))] if forks else []))
    console.show(rows)
    if len(items) == limit:
        console.note(f"the first {limit}; more with --limit")


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
    with Target.of(tenant, url, name, address, None).open() as executions:
        one = executions.show(id)
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
        "forked from": origin_words(one.get("forked_from")),
        "input": words(one["input"], 2000),
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
    with Target.of(tenant, url, name, address, None).open() as executions:
        items = list(executions.events(id))
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
    with Target.of(tenant, url, name, address, None).open() as executions:
        answer = executions.waits(id)
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
