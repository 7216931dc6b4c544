"""The command line: `litefleet`.

Results go to stdout (as JSON with --json), progress and errors to stderr. Exit
codes: 0 done, 1 failed, 2 wrong usage.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from fleet import console
from fleet.cli import (
    brake,
    config,
    coordinators,
    copies,
    demo,
    dev,
    doctor,
    drill,
    executions,
    history,
    hosts,
    lag,
    recover,
    replay,
    restore,
    schedules,
    sql,
    tenants,
    up,
    upgrade,
    verify,
)
from fleet.cli.problems import problem_of

app = typer.Typer(
    name="litefleet",
    help="A fleet of small servers, each with its whole log in one SQLite file that is replicated "
    "to object storage. Lose a host, lose nothing.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command()(demo.demo)
app.command()(demo.practice)
app.command()(dev.dev)
app.command()(replay.replay)
app.command()(up.up)
app.command()(upgrade.upgrade)
app.add_typer(tenants.app, name="tenant")
app.add_typer(hosts.app, name="host")
app.add_typer(coordinators.app, name="coordinator")
app.add_typer(executions.app, name="exec")
app.add_typer(schedules.app, name="schedule")
app.add_typer(copies.app, name="copy")
app.add_typer(config.app, name="config")
app.command()(sql.sql)
app.command()(lag.lag)
app.command()(history.history)
app.command()(restore.restore)
app.command()(verify.verify)
app.command()(recover.recover)
app.command()(drill.drill)
app.command()(brake.resume)
app.command()(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        try:
            number = version("litefleet")
        except PackageNotFoundError:
            number = "unknown (not installed)"
        typer.echo(f"litefleet {number}")
        raise typer.Exit


@app.callback()
def root(
    show_version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    """A fleet of small servers, each with its whole log in one SQLite file."""


def main() -> None:
    """The entry point: every error becomes a message and an exit code, never a traceback."""
    try:
        app()
    except Exception as error:
        if os.environ.get("LITEFLEET_DEBUG"):
            raise
        problem = problem_of(error)
        if "--json" in sys.argv[1:]:
            console.print_json(problem.as_json())
        console.complain(problem)
        sys.exit(1)
