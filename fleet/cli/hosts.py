"""`litefleet host …`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fleet import DEFAULT_NAME, console
from fleet.cli import connection
from fleet.cli.options import Address, Json, Name
from fleet.cli.tables import dated, table

if TYPE_CHECKING:
    from rich.table import Table

    from fleet.views import HostView

app = typer.Typer(help="Look at hosts.", no_args_is_help=True)


@app.command("list")
def host_list(name: Name = DEFAULT_NAME, address: Address = None, as_json: Json = False) -> None:
    """List the hosts, their leases and their tenants."""
    with connection.connect(name, address) as client:
        hosts = client.hosts()
    if as_json:
        console.print_json(hosts)
    else:
        console.show(_host_table(hosts))


@app.command("remains")
def host_remains(
    host: Annotated[str, typer.Argument(help="Its name.")],
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Show what ended nodes have left on a host's disk, and what becomes of it."""
    with connection.connect(name, address) as client:
        found = client.remains(host)
    if as_json:
        console.print_json(found)
        return
    rows = table("tenant", "epoch", "put away", "bytes", "goes", "why", right=("epoch", "bytes"))
    for one in found:
        goes = "yes" if one.goes else "no"
        at = dated(one.put_away_at, "seconds")
        rows.add_row(one.tenant, str(one.epoch), at, f"{one.bytes:,}", goes, one.reason)
    console.show(rows)


def _host_table(hosts: list[HostView]) -> Table:
    rows = table("host", "state", "lease age", "address", "tenants", right=("lease age",))
    for one in hosts:
        rows.add_row(
            one.name,
            one.state,
            console.age(one.lease_age_seconds),
            one.address or "",
            ", ".join(one.tenants),
        )
    return rows
