"""`litefleet schedule list` and `show`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from fleet import DEFAULT_NAME, console
from fleet.cli.executions.target import Target, Tenant, Url, clock, words
from fleet.cli.options import Address, Json, Name
from fleet.cli.schedules.times import Id, spoken, when
from fleet.cli.tables import details, table

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer()


@app.command("list")
def list_(
    tenant: Tenant = None,
    url: Url = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """List the schedules, with their next and their last tick."""
    with Target.of(tenant, url, name, address, None).schedules() as schedules:
        answer = schedules.list()
    if as_json:
        console.print_json(answer)
        return
    rows = table("id", "workflow", "when", "status", "next", "last", "runs", right=("runs",))
    for one in answer["items"]:
        last = one["recent"][0] if one["recent"] else None
        rows.add_row(
            one["id"],
            one["spec"]["workflow"],
            when(one["spec"]),
            one["status"],
            clock(one["next"][0]["at"]) if one["next"] else "",
            "" if last is None else f"{last.get('status') or last['did']} {clock(last['for'])}",
            str(one["runs"]),
        )
    console.show(rows)


@app.command()
def show(
    id: Id,
    tenant: Tenant = None,
    url: Url = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Show one schedule: its next ticks, what runs and waits, and what it did last."""
    with Target.of(tenant, url, name, address, None).schedules() as schedules:
        one = schedules.show(id)
    if as_json:
        console.print_json(one)
        return
    console.show(_details(one))
    if one["recent"]:
        console.show(_recent(one["recent"]))


def _details(one: dict[str, Any]) -> Table:
    spec = one["spec"]
    waiting = [f"{each['why']} {clock(each.get('for', each.get('to')))}" for each in one["waiting"]]
    rows = {
        "id": one["id"],
        "status": one["status"] + (f": {one['note']}" if one["note"] else ""),
        "declared": "by the application" if one["declared"] else "",
        "workflow": spec["workflow"],
        "input": words(spec["input"], 2000) if spec["input"] else "",
        "when": when(spec),
        "jitter": f"up to {spoken(spec['jitter'])}" if spec["jitter"] else "",
        "starts": clock(spec["start_at"]),
        "ends": clock(spec["end_at"]),
        "overlap": spec["overlap"],
        "catch-up": spoken(spec["catch_up_window"]),
        "queue": spec["queue"] or "",
        "runs": str(one["runs"]) + (f" of {spec['max_runs']}" if spec["max_runs"] else ""),
        "skipped": str(one["skipped"] or ""),
        "next": "\n".join(clock(each["at"]) for each in one["next"]),
        "running": "\n".join(one["running"]),
        "waiting": "\n".join(waiting),
    }
    return details({key: value for key, value in rows.items() if value})


def _recent(recent: list[dict[str, Any]]) -> Table:
    rows = table("did", "for", "execution", "status")
    for one in recent:
        status = one.get("status") or one.get("why") or ""
        rows.add_row(one["did"], clock(one["for"]), one.get("execution", ""), status)
    return rows
