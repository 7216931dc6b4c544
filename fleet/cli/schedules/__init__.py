"""`litefleet schedule …`: the schedules of one tenant, or of one engine."""

from __future__ import annotations

import typer

from fleet.cli.schedules import looking, making, steering

app = typer.Typer(
    help="Start workflows at certain times: a tenant's, or those of an engine by its address.",
    no_args_is_help=True,
)
for part in (making, looking, steering):
    app.add_typer(part.app)
