"""`litefleet coordinator …`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fleet import DEFAULT_NAME, console
from fleet.cli import connection
from fleet.cli.options import Address, ConfigFile, Json, Name
from fleet.cli.tables import table
from fleet.problem import Problem

app = typer.Typer(help="Run coordinators, and look at them.", no_args_is_help=True)


@app.command("run")
def coordinator_run(
    settings: Annotated[
        Path | None,
        typer.Argument(help="Its settings file (JSON, mode 0600), instead of litefleet.toml."),
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Run a coordinator until Ctrl-C. Of all that run for a fleet one is active; the others wait
    to take over."""
    from fleet.config import load
    from fleet.coordinator.__main__ import main
    from fleet.settings import CoordinatorSettings

    read = CoordinatorSettings.read
    if main((lambda: read(settings)) if settings is not None else load(config).for_coordinator):
        raise Problem(
            "coordinator_ended",
            "The coordinator has ended; the line above says why.",
            "See `litefleet doctor`, and docs/how-to/run-a-standby.md.",
        )


@app.command("list")
def coordinator_list(
    name: Name = DEFAULT_NAME, address: Address = None, as_json: Json = False
) -> None:
    """List the coordinators: which one is active, and which wait to take over."""
    with connection.connect(name, address) as client:
        found = client.coordinators()
    if as_json:
        console.print_json(found)
        return
    rows = table("coordinator", "state", "epoch", "lease age", "address", "trouble")
    for one in found:
        rows.add_row(
            one.name,
            "active" if one.active else "waits",
            str(one.epoch) if one.epoch else "",
            console.age(one.lease_age_seconds),
            one.address,
            one.detail,
        )
    console.show(rows)
