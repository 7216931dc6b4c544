"""`litefleet schedule create` and `delete`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from fleet import DEFAULT_NAME, console
from fleet.cli.executions.target import (
    AckOption,
    Input,
    Target,
    Tenant,
    Url,
    Values,
    arguments,
    clock,
)
from fleet.cli.options import Address, Json, Name
from fleet.cli.schedules.times import Id, duration, when

app = typer.Typer()


class OverlapChoice(StrEnum):
    """What a tick does that comes while something of its schedule runs."""

    SKIP = "skip"
    BUFFER_ONE = "buffer_one"
    BUFFER_ALL = "buffer_all"
    CANCEL_OTHER = "cancel_other"
    TERMINATE_OTHER = "terminate_other"
    ALLOW_ALL = "allow_all"


Workflow = Annotated[str, typer.Argument(help="What it starts.")]
Cron = Annotated[
    list[str] | None,
    typer.Option("--cron", metavar="EXPRESSION", help="Five fields, or @daily (repeatable)."),
]
Zone = Annotated[str | None, typer.Option("--time-zone", help="For --cron, such as Europe/Paris.")]
Every = Annotated[
    int | None,
    typer.Option("--every", parser=duration, metavar="DURATION", help="Such as 90s, 15m, 2h."),
]
Anchor = Annotated[
    str | None, typer.Option(metavar="TIME", help="For --every: when one of its ticks is.")
]
Jitter = Annotated[
    int | None,
    typer.Option(parser=duration, metavar="DURATION", help="Put each tick off by up to this."),
]
Start = Annotated[str | None, typer.Option("--start-at", metavar="TIME", help="No tick before.")]
End = Annotated[str | None, typer.Option("--end-at", metavar="TIME", help="No tick after.")]
Window = Annotated[
    int | None,
    typer.Option(
        "--catch-up-window",
        parser=duration,
        metavar="DURATION",
        help="What was missed happens later, unless it is older.",
    ),
]
OverlapOption = Annotated[
    OverlapChoice | None, typer.Option("--overlap", help="For a tick that comes while one runs.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="How many may wait, with buffer_all.")]
Runs = Annotated[int | None, typer.Option("--max-runs", min=1, help="Stop after so many ticks.")]
OnFailure = Annotated[
    bool, typer.Option("--pause-on-failure", help="Pause when one of its executions fails.")
]
QueueOption = Annotated[str | None, typer.Option("--queue", help="Where it starts them.")]
Priority = Annotated[int | None, typer.Option(help="In the queue; the smaller goes first.")]
Partition = Annotated[str | None, typer.Option(help="In the queue.")]


@app.command()
def create(
    id: Id,
    workflow: Workflow,
    values: Values = None,
    input: Input = None,
    cron: Cron = None,
    time_zone: Zone = None,
    every: Every = None,
    anchor: Anchor = None,
    jitter: Jitter = None,
    start_at: Start = None,
    end_at: End = None,
    catch_up_window: Window = None,
    overlap: OverlapOption = None,
    buffer_limit: Limit = None,
    max_runs: Runs = None,
    pause_on_failure: OnFailure = False,
    queue: QueueOption = None,
    priority: Priority = None,
    partition: Partition = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Where there is one of this id, change it to this.")
    ] = False,
    paused: Annotated[bool, typer.Option("--paused", help="A new one begins paused.")] = False,
    note: Annotated[str, typer.Option(help="Why it is paused.")] = "",
    tenant: Tenant = None,
    url: Url = None,
    ack: AckOption = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Make a schedule that starts a workflow at certain times."""
    spec = _spec(
        workflow=workflow,
        input=arguments(values, input),
        cron=cron,
        time_zone=time_zone,
        every=every,
        anchor=anchor,
        jitter=jitter,
        start_at=start_at,
        end_at=end_at,
        catch_up_window=catch_up_window,
        overlap=overlap,
        buffer_limit=buffer_limit,
        max_runs=max_runs,
        pause_on_failure=pause_on_failure,
        queue=queue,
        priority=priority,
        partition=partition,
    )
    with Target.of(tenant, url, name, address, ack).schedules() as schedules:
        _tell(schedules.create(id, spec, paused=paused, note=note, replace=replace), as_json)


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
    """Forget a schedule. What it has started goes on."""
    with Target.of(tenant, url, name, address, ack).schedules() as schedules:
        answer = schedules.delete(id)
    if as_json:
        console.print_json(answer)
    else:
        console.note(f"{id} is deleted")


def _spec(**given: Any) -> dict[str, Any]:
    """What was given; the engine has the rest by default, and checks all of it."""
    left_out = (None, False)
    return {
        key: value
        for key, value in given.items()
        # By identity: zero is given on purpose.
        if not any(value is one for one in left_out) and value not in ([], {})
    }


def _tell(view: dict[str, Any], as_json: bool) -> None:
    if as_json:
        console.print_json(view)
        return
    following = f", next {clock(view['next'][0]['at'])}" if view["next"] else ""
    console.note(f"{view['id']} is {view['status']}: {when(view['spec'])}{following}")
