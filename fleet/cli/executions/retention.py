"""`litefleet exec delete`, `hold`, `release`, `prune` and `retention`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet import DEFAULT_NAME, console
from fleet.cli.executions.target import AckOption, Id, Target, Tenant, Url, clock
from fleet.cli.options import Address, Json, Name
from fleet.cli.tables import details, table
from fleet.problem import Problem

if TYPE_CHECKING:
    from pydantic import BaseModel

    from node.api_models_retention import Held

app = typer.Typer()


@app.command()
def delete(
    id: Id,
    tenant: Tenant = None,
    url: Url = None,
    ack: AckOption = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Remove an execution that has ended from the log, with all that it said."""
    with Target.of(tenant, url, name, address, ack).executions() as executions:
        answer = executions.delete(id)
    if as_json:
        console.print_json(answer)
    else:
        events = "" if answer["events"] is None else f", with {answer['events']} events"
        console.note(f"{id} is removed{events}")


@app.command()
def hold(
    id: Id,
    reason: Annotated[str, typer.Option(help="Kept with it.")] = "",
    tenant: Tenant = None,
    url: Url = None,
    ack: AckOption = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Let nothing remove an execution until it is released."""
    with Target.of(tenant, url, name, address, ack).open() as client:
        _tell(client.handle(id).hold(reason), as_json)


@app.command()
def release(
    id: Id,
    tenant: Tenant = None,
    url: Url = None,
    ack: AckOption = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Let an execution that is held be removed again."""
    with Target.of(tenant, url, name, address, ack).open() as client:
        _tell(client.handle(id).release(), as_json)


@app.command()
def prune(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed.")
    ] = False,
    tenant: Tenant = None,
    url: Url = None,
    ack: AckOption = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Remove what the rules of retention no longer keep, without waiting for its turn."""
    with Target.of(tenant, url, name, address, ack).open() as client:
        total = {"executions": 0, "histories": 0, "events": 0, "batches": 0}
        for piece in client.prune(dry_run=dry_run):
            done = _json(piece)
            if dry_run:
                _show_plan(done, as_json)
                return
            total = {key: count + done[key] for key, count in total.items()}
            if not as_json:
                console.note(_said(total) + " removed so far")
    if as_json:
        console.print_json({**total, "left": done["left"], "trouble": done["trouble"]})
    else:
        console.say(_said(total) + " removed")
    if done["trouble"]:
        raise Problem("not_pruned", f"It did not come to its end: {done['trouble']}", "Try again.")


@app.command()
def retention(
    tenant: Tenant = None,
    url: Url = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Show the rules of retention, what they have removed, and when they look again."""
    with Target.of(tenant, url, name, address, None).open() as client:
        one = _json(client.retention())
    if as_json:
        console.print_json(one)
        return
    if one["rules"]:
        rows = table("workflow", "outcome", "keep", "history", "from")
        for rule in one["rules"]:
            lengths = (_length(rule["keep"]), _length(rule["history"]))
            rows.add_row(
                rule["workflow"] or "any", rule["outcome"] or "any", *lengths, rule["source"]
            )
        console.show(rows)
    else:
        console.say("no rule: everything is kept")
    last = one["last"]
    shown = {
        "removed": _said(one),
        "held": ", ".join(one["held"]),
        "log": f"{one['size'] / 1e6:.1f} MB, of which {one['free'] / 1e6:.1f} MB are free",
        "last round": "" if last is None else f"{clock(last['at'])}: {_said(last)}",
        "trouble": (last or {}).get("trouble") or "",
        "next round": "running" if one["running"] else clock(one["next_at"]),
    }
    console.show(details({key: value for key, value in shown.items() if value}))


def _json(answer: BaseModel) -> dict[str, Any]:
    """An answer as it came."""
    return answer.model_dump(mode="json", exclude_unset=True)


def _tell(answer: Held, as_json: bool) -> None:
    if as_json:
        console.print_json(_json(answer))
        return
    changed = "" if answer.changed else " (nothing changed)"
    console.note(f"{answer.id} is {'held' if answer.held else 'not held'}{changed}")


def _show_plan(plan: dict[str, Any], as_json: bool) -> None:
    if as_json:
        console.print_json(plan)
        return
    rows = table("id", "workflow", "status")
    for one in plan["named_executions"]:
        rows.add_row(one["id"], one["workflow"], one["status"])
    for one in plan["named_histories"]:
        rows.add_row(one["id"], one["workflow"], "what it did before it went on")
    if rows.row_count:
        console.show(rows)
    console.say(f"{_counted(plan['executions'], plan['histories'])} would be removed")


def _said(counts: dict[str, Any]) -> str:
    return f"{_counted(counts['executions'], counts['histories'])}, {counts['events']} events"


def _counted(executions: int, histories: int) -> str:
    return f"{executions} executions and {histories} past histories"


def _length(seconds: float | None) -> str:
    return "" if seconds is None else console.age(seconds)
