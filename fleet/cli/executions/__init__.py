"""`litefleet exec …`: the executions of one tenant, or of one engine."""

from __future__ import annotations

import typer

from fleet.cli.executions import (
    bulk,
    control,
    forks,
    logs,
    looking,
    messages,
    retention,
    running,
)

app = typer.Typer(
    help="Start executions, look at them, and speak to them: a tenant's, or those of an engine "
    "by its address.",
    no_args_is_help=True,
)
for part in (running, looking, logs, messages, control, forks, bulk, retention):
    app.add_typer(part.app)
