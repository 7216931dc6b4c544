"""`litefleet tenant epochs`, `hold` and `unhold`."""

from __future__ import annotations

from typing import Annotated

import typer

from fleet import DEFAULT_NAME, console
from fleet.cli import connection
from fleet.cli.options import Address, Json, Name
from fleet.cli.tables import table

Tenant = Annotated[str, typer.Argument(help="Its name.")]


def tenant_epochs(
    tenant: Tenant, name: Name = DEFAULT_NAME, address: Address = None, as_json: Json = False
) -> None:
    """Show the epochs of a tenant that are in the bucket, how large each is, and which may go."""
    with connection.connect(name, address) as client:
        found = client.epochs(tenant)
    if as_json:
        console.print_json(found)
        return
    rows = table("epoch", "objects", "bytes", "goes", "why", right=("epoch", "objects", "bytes"))
    for one in found.items:
        goes = "yes" if one.goes else "no"
        rows.add_row(str(one.epoch), f"{one.objects:,}", f"{one.bytes:,}", goes, one.reason)
    console.show(rows)
    if found.hold:
        console.note(f"{tenant} is on hold: nothing of it is removed")


def tenant_hold(
    tenant: Tenant, name: Name = DEFAULT_NAME, address: Address = None, as_json: Json = False
) -> None:
    """Keep all epochs of a tenant, whatever their retention period, until `unhold`."""
    _hold(tenant, True, name, address, as_json)


def tenant_unhold(
    tenant: Tenant, name: Name = DEFAULT_NAME, address: Address = None, as_json: Json = False
) -> None:
    """Let epochs of a tenant go again once their retention period is over."""
    _hold(tenant, False, name, address, as_json)


def _hold(tenant: str, hold: bool, name: str, address: str | None, as_json: bool) -> None:
    with connection.connect(name, address) as client:
        view = client.hold(tenant, hold)
    if as_json:
        console.print_json(view)
        return
    now = "on hold" if hold else "not on hold"
    console.note(f"{tenant} is {now}" + ("" if view.changed else ", as it was before"))
