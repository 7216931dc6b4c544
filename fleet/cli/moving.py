"""`litefleet tenant sleep`, `wake` and `move`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from fleet import DEFAULT_NAME, console
from fleet.cli import connection
from fleet.cli.options import Address, Json, Name
from fleet.problem import Problem

if TYPE_CHECKING:
    from fleet.views import TenantView

LOOK_EVERY = 0.1
"""Seconds between two looks at a tenant."""
Tenant = Annotated[str, typer.Argument(help="Its name.")]
Wait = Annotated[float, typer.Option(min=0, help="Seconds to wait for it; 0 does not wait.")]


def tenant_sleep(
    tenant: Tenant,
    wait: Wait = 60.0,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Stop a tenant, with all of its log in the bucket, until it is woken.

    A request, a webhook, its next timer or schedule, and `litefleet tenant wake` wake it. One that
    has work under way wakes at once.
    """
    with connection.connect(name, address) as client:
        view = client.sleep(tenant)
        view = _await(view, lambda: client.tenant(tenant), wait, lambda one: not _stopping(one))
    if wait and _stopping(view):
        raise Problem(
            "not_asleep",
            f"{tenant} shall sleep, but is {view.state} still after {wait:.0f} s",
            f"It goes on with that; `litefleet tenant show {tenant}` tells how it stands.",
        )
    if as_json:
        console.print_json(view)
    elif view.state == "asleep":
        until = "" if view.next_wake is None else ", until its next timer"
        console.note(f"{tenant} sleeps{until}")
    elif wait:
        console.note(f"{tenant} was woken at once: it has work under way")


def tenant_wake(
    tenant: Tenant,
    wait: Wait = 30.0,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Have a tenant that sleeps run again."""
    with connection.connect(name, address) as client:
        view = client.wake(tenant)
        view = _await(view, lambda: client.tenant(tenant), wait, lambda one: one.serving)
    if wait and not view.serving:
        raise Problem(
            "not_serving",
            f"{tenant} shall run, but is {view.state} still after {wait:.0f} s: "
            f"{view.detail or 'it is being started'}",
            f"It goes on with that; `litefleet tenant show {tenant}` tells how it stands.",
        )
    if as_json:
        console.print_json(view)
    elif view.serving:
        console.note(f"{tenant} serves on {view.host}")


def tenant_move(
    tenant: Tenant,
    to: Annotated[
        str | None, typer.Option(metavar="HOST", help="Where to; by default any other host.")
    ] = None,
    wait: Wait = 120.0,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Move a tenant to another host. Nothing of it is lost: it stops only when all is uploaded."""
    with connection.connect(name, address) as client:
        view = client.move(tenant, to)
        until = time.monotonic() + wait
        with console.err.status(f"moving {tenant}"):
            while view.state == "moving" and time.monotonic() < until:
                time.sleep(LOOK_EVERY)
                view = client.move_of(tenant)
    if wait and view.state == "moving":
        raise Problem(
            "not_moved",
            f"{tenant} is not moved after {wait:.0f} s",
            f"It goes on with that; `litefleet tenant show {tenant}` tells how it stands.",
        )
    if as_json:
        console.print_json(view)
    elif view.state == "done":
        gone = view.unavailable_seconds
        words = "" if gone is None else f"; nothing served it for {gone:.2f} s"
        console.note(f"{tenant} serves on {view.to_host}{words}")
        if to is not None and view.to_host != to:
            console.note(f"{to} could not take it")


def _stopping(view: TenantView) -> bool:
    return view.asleep and view.state != "asleep"


def _await(
    view: TenantView,
    look: Callable[[], TenantView],
    seconds: float,
    over: Callable[[TenantView], bool],
) -> TenantView:
    until = time.monotonic() + seconds
    with console.err.status("waiting"):
        while not over(view) and time.monotonic() < until:
            time.sleep(LOOK_EVERY)
            view = look()
    return view
