"""`litefleet exec cancel`, `terminate`, `pause`, `resume`, `retry`, `pin` and `unpin`."""

from __future__ import annotations

from typing import Annotated, Any

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


@app.command()
def pin(
    id: Id,
    version: Annotated[
        str | None, typer.Option(metavar="VERSION", help="For one that is stopped: to which.")
    ] = None,
    tenant: Tenant = None,
    url: Url = None,
    ack: AckOption = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Keep an execution to the version of the application that it runs with."""
    with Target.of(tenant, url, name, address, ack).executions() as executions:
        _told(id, executions.pin(id, version), as_json)


@app.command()
def unpin(
    id: Id,
    tenant: Tenant = None,
    url: Url = None,
    ack: AckOption = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Let an execution move to the current version, when its engine starts next."""
    _do(Target.of(tenant, url, name, address, ack), id, "unpin", None, as_json)


def _do(target: Target, id: str, action: str, reason: str | None, as_json: bool) -> None:
    with target.executions() as executions:
        _told(id, executions.control(id, action, reason), as_json)


def _told(id: str, answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        console.print_json(answer)
        return
    changed = "" if answer["changed"] else " (nothing changed)"
    paused = ", paused" if answer["paused"] else ""
    pinned = ", pinned" if answer.get("pinned") else ""
    console.note(f"{id} is {answer['status']}{paused}{pinned}{changed}")
