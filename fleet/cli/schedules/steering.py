"""`litefleet schedule pause`, `resume`, `trigger` and `backfill`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from fleet import DEFAULT_NAME, console
from fleet.cli.executions.target import AckOption, Target, Tenant, Url
from fleet.cli.options import Address, Json, Name
from fleet.cli.schedules.times import Id, past

app = typer.Typer()


class MannerChoice(StrEnum):
    """How what is asked for goes with what runs."""

    BUFFER_ALL = "buffer_all"
    ALLOW_ALL = "allow_all"


Manner = Annotated[
    MannerChoice | None,
    typer.Option("--overlap", help="After what runs, or beside it. By default after it."),
]


@app.command()
def pause(
    id: Id,
    note: Annotated[str, typer.Option(help="Why; it is shown with the schedule.")] = "",
    tenant: Tenant = None,
    url: Url = None,
    ack: AckOption = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Let no tick of a schedule happen. What runs goes on."""
    with Target.of(tenant, url, name, address, ack).schedules() as schedules:
        _steered(schedules.pause(id, note), as_json)


@app.command()
def resume(
    id: Id,
    tenant: Tenant = None,
    url: Url = None,
    ack: AckOption = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Let a schedule go on from now; ticks of the pause are not made up for."""
    with Target.of(tenant, url, name, address, ack).schedules() as schedules:
        _steered(schedules.resume(id), as_json)


@app.command()
def trigger(
    id: Id,
    key: Annotated[
        str | None,
        typer.Option(help="The same key again is the same execution. By default one is made up."),
    ] = None,
    overlap: Manner = None,
    tenant: Tenant = None,
    url: Url = None,
    ack: AckOption = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Start what a schedule starts, now, also while it is paused; prints the execution's id."""
    with Target.of(tenant, url, name, address, ack).schedules() as schedules:
        answer = schedules.trigger(id, key, None if overlap is None else overlap.value)
    if as_json:
        console.print_json(answer)
    else:
        console.say(answer["execution"])


@app.command()
def backfill(
    id: Id,
    start: Annotated[str, typer.Option("--from", metavar="TIME", help="Such as 2d-ago.")],
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="A later one, or now.")] = "now",
    overlap: Manner = None,
    tenant: Tenant = None,
    url: Url = None,
    ack: AckOption = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Have the ticks of a time that has passed happen, each that has not, in order."""
    times = past(start), past(end)
    with Target.of(tenant, url, name, address, ack).schedules() as schedules:
        answer = schedules.backfill(id, *times, None if overlap is None else overlap.value)
    if as_json:
        console.print_json(answer)
    else:
        console.note(f"{answer['ticks']} ticks in that time")


def _steered(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        console.print_json(answer)
        return
    note = f": {answer['note']}" if answer["note"] else ""
    changed = "" if answer["changed"] else " (nothing changed)"
    console.note(f"{answer['id']} is {answer['status']}{note}{changed}")
