"""`litefleet exec start` and `result`."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet import DEFAULT_NAME, console
from fleet.cli.executions.target import (
    AckOption,
    Id,
    Input,
    LabelOption,
    Target,
    Tenant,
    Url,
    Values,
    arguments,
    error_words,
    labels,
    shown,
    words,
)
from fleet.cli.options import Address, Json, Name

if TYPE_CHECKING:
    from node.api_models import Outcome, Standing
    from node.client import Client

app = typer.Typer()
#: Exit status of a command that waited for an end that has not come.
NOT_OVER = 3
#: Seconds between two looks at what an execution waits for.
LOOK_EVERY = 2.0


class ReuseChoice(StrEnum):
    """What an id that is in use already means."""

    EXISTING = "existing"
    REJECT = "reject"
    IF_FAILED = "if_failed"
    IF_CLOSED = "if_closed"
    TERMINATE = "terminate"


@app.command()
def start(
    workflow: Annotated[str, typer.Argument(help="The workflow's name.")],
    values: Values = None,
    input: Input = None,
    id: Annotated[str | None, typer.Option("--id", help="By default one is made up.")] = None,
    reuse: Annotated[
        ReuseChoice, typer.Option(help="What an id that is in use means.")
    ] = ReuseChoice.EXISTING,
    pinned: Annotated[
        bool | None,
        typer.Option(
            "--pinned/--not-pinned",
            help="Whether it stays with this version of the application; by default as declared.",
        ),
    ] = None,
    label: LabelOption = None,
    wait: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Wait for the result.")
    ] = None,
    tenant: Tenant = None,
    url: Url = None,
    ack: AckOption = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Start an execution; with --wait, and give its result."""
    given = arguments(values, input)
    options: dict[str, Any] = {"reuse": reuse.value, "labels": labels(label)}
    options |= {} if id is None else {"id": id}
    options |= {} if pinned is None else {"pinned": pinned}
    with Target.of(tenant, url, name, address, ack).open() as client:
        started = client.using(**options).start(workflow, given).started
        assert started is not None
        if wait is None:
            if as_json:
                console.print_json(shown(started))
            else:
                console.say(started.id)
                console.note(f"{workflow} is {started.status}, {_standing(started)}")
            return
        console.note(f"{workflow} {started.id} is {started.status}")
        _finish(_wait(client, started.id, wait), as_json)


@app.command()
def result(
    id: Id,
    wait: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long at most.")] = 0.0,
    tenant: Tenant = None,
    url: Url = None,
    ack: AckOption = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Give an execution's result. Exit code 1 if it did not complete, 3 if it is not over."""
    with Target.of(tenant, url, name, address, ack).open() as client:
        _finish(_wait(client, id, wait), as_json)


def _wait(client: Client, id: str, wait: float) -> Outcome:
    from node.engine.events import CLOSED_STATUS, Status

    handle = client.handle(id)
    if not console.err.is_terminal or wait == 0:
        return handle.outcome(wait)
    until = time.monotonic() + wait
    over = {*CLOSED_STATUS.values(), Status.DIVERGED}
    with console.err.status(f"{id} is running") as status:
        while True:
            left = max(0.0, until - time.monotonic())
            answer = handle.outcome(min(LOOK_EVERY, left))
            if answer.status in over or left == 0:
                return answer
            waits = handle.waiting().items
            names = ", ".join(f"{one.kind} {one.name}".strip() for one in waits[:3])
            status.update(f"{id} waits for {names}" if names else f"{id} is running")


def _finish(outcome: Outcome, as_json: bool) -> None:
    answer = shown(outcome)
    if as_json:
        console.print_json(answer)
    elif answer["status"] == "completed":
        console.say(words(answer["result"], 1_000_000))
        console.note(f"{answer['id']} completed, {_standing(outcome)}")
    elif "error" in answer:
        console.note(f"{answer['id']} {answer['status']}: {error_words(answer['error'])}")
    else:
        console.note(f"{answer['id']} is {answer['status']}")
    if answer["status"] in ("running", "queued"):
        raise typer.Exit(NOT_OVER)
    if answer["status"] != "completed":
        raise typer.Exit(1)


def _standing(answer: Standing) -> str:
    return "durable" if answer.durable else "not proven durable"
