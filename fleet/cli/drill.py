"""`litefleet drill`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fleet import DEFAULT_NAME, console
from fleet.cli import connection
from fleet.cli.options import Address, Json, Name
from fleet.cli.tables import dated, table

if TYPE_CHECKING:
    from rich.table import Table

    from fleet.views import DrillView


def drill(
    tenants: Annotated[
        list[str] | None, typer.Argument(help="Their names; without any, all of the fleet's.")
    ] = None,
    history: Annotated[
        bool, typer.Option("--history", help="Only show what came of the drills so far.")
    ] = False,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Restore tenants' backups somewhere harmless and compare them with their sources, now."""
    with connection.connect(name, address) as client:
        if history:
            records = [one for one in client.drills() if not tenants or one.tenant in tenants]
            if as_json:
                console.print_json(records)
            else:
                console.show(_table([drill for one in records for drill in one.drills]))
            return
        done = []
        for tenant in tenants or sorted(one.name for one in client.tenants()):
            console.note(f"restoring the backup of {tenant}")
            done.append(client.drill(tenant))
    if as_json:
        console.print_json(done)
    else:
        console.show(_table(done))
    if not all(one.ok for one in done):
        raise typer.Exit(1)


def _table(drills: list[DrillView]) -> Table:
    columns = ("tenant", "at", "host", "bookmark", "bytes", "seconds", "behind", "verdict")
    made = table(*columns, right=("bytes", "seconds", "behind"))
    for one in drills:
        verdict = ("whole" if one.compared else "whole, not compared") if one.ok else one.finding
        made.add_row(
            one.tenant,
            dated(one.began_at, "seconds"),
            one.host,
            one.bookmark,
            f"{one.bytes:,}",
            f"{one.seconds:.2f}",
            console.age(one.behind_seconds),
            verdict,
        )
    return made
