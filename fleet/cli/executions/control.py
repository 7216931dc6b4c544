"""`litefleet exec cancel`, `terminate`, `pause`, `resume` and `retry`."""

from __future__ import annotations

from typing import Annotated

import typer

from fleet import DEFAULT_NAME, console
from fleet.cli.executions.target import AckOption, Id, Target, Tenant, Url
from fleet.cli.options import Address, Json, Name

app = typer.Typer()
Reason = Annotated[str, typer.Option(help="Kept in the log.")]


@app.command()
def cancel(
    id: Id,
    reason: Reason = "",
    tenant: Tenant = None,
    url: Url = None,
    ack: AckOption = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Ask an execution, and its children, to stop."""
    _do(Target.of(tenant, url, name, address, ack), id, "cancel", reason, as_json)


@app.command()
def terminate(
    id: Id,
    reason: Reason = "",
    tenant: Tenant = None,
    url: Url = None,
    ack: AckOption = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """End an execution and its children without asking their code."""
    _do(Target.of(tenant, url, name, address, ack), id, "terminate", reason, as_json)


@app.command()
def pause(
    id: Id,
    reason: Reason = "",
    tenant: Tenant = None,
    url: Url = None,
    ack: AckOption = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Let an execution start no further attempt and see no timer fire."""
    _do(Target.of(tenant, url, name, address, ack), id, "pause", reason, as_json)


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
    """Let a paused execution go on."""
    _do(Target.of(tenant, url, name, address, ack), id, "resume", None, as_json)


@app.command()
def retry(
    id: Id,
    tenant: Tenant = None,
    url: Url = None,
    ack: AckOption = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Try an execution that failed again, from the step that failed."""
    _do(Target.of(tenant, url, name, address, ack), id, "retry", None, as_json)


def _do(target: Target, id: str, action: str, reason: str | None, as_json: bool) -> None:
    with target.open() as executions:
        answer = executions.control(id, action, reason)
    if as_json:
        console.print_json(answer)
        return
    changed = "" if answer["changed"] else " (nothing changed)"
    paused = ", paused" if answer["paused"] else ""
    console.note(f"{id} is {answer['status']}{paused}{changed}")
