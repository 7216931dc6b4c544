"""`litefleet exec list`, `show`, `log`, `waiting` and `export`."""

from __future__ import annotations

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fleet import DEFAULT_NAME, console
from fleet.cli.executions.target import (
    Id,
    Target,
    Tenant,
    Url,
    clock,
    complete_id,
    error_words,
    words,
)
from fleet.cli.executions.waits import seconds_of, stack_words, tree_of
from fleet.cli.options import Address, Json, Name
from fleet.cli.tables import details, table
from fleet.problem import Problem

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
    rows = table("id", "workflow", "status", "started", "took", right=("took",))
    for one in items:
        standing = one["status"] + (", paused" if one.get("paused") else "")
        took = "" if one["closed_at"] is None else console.age(one["closed_at"] - one["started_at"])
        rows.add_row(one["id"], one["workflow"], standing, clock(one["started_at"]), took)
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
        "version": str(one.get("version") or ""),
        "input": words(one["input"], 2000),
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
    with Target.of(tenant, url, name, address, None).open() as executions:
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
    with Target.of(tenant, url, name, address, None).open() as executions:
        archive = executions.archive(id)
    if to is None:
        console.print_json(archive)
        return
    to.write_text(json.dumps(archive, indent=1) + "\n", encoding="utf-8")
    about = {"file": str(to), "execution": id, "events": len(archive["rows"])}
    if as_json:
        console.print_json(about)
    else:
        console.note(f"{about['events']} events of {id} are in {to}")
