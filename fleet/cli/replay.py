"""`litefleet replay`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleet import console
from fleet.cli.options import DurabilityChoice, Json
from fleet.cli.tables import table

if TYPE_CHECKING:
    from fleet.replay import Failure, ReplayReport


def replay(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE…",
            exists=True,
            help="Exported executions, logs, or folders of them (*.json, *.db).",
        ),
    ],
    app: Annotated[
        str, typer.Option("--app", metavar="APP", help="A file such as app.py, or package.module.")
    ],
    id: Annotated[
        list[str] | None, typer.Option("--id", help="Only this execution (repeatable).")
    ] = None,
    durability: Annotated[
        DurabilityChoice, typer.Option(help="That of the tenants that logs are from.")
    ] = DurabilityChoice.ASYNC,
    as_json: Json = False,
) -> None:
    """Run recorded executions against code, and fail if it does something else than it did.

    Nothing has an effect: activities give what the log holds. Exit code 1 if an execution
    diverges.
    """
    from fleet.application import load
    from fleet.replay import replay_files
    from node.engine.durability import Durability

    report = replay_files(
        files, load(app), ids=frozenset(id or ()), floor=Durability(durability.value)
    )
    if as_json:
        console.print_json(report)
    else:
        _show(report)
    if not report.ok:
        raise typer.Exit(1)


def _show(report: ReplayReport) -> None:
    rows = table("workflow", "follow their logs", "do not", right=("follow their logs", "do not"))
    for name, count in sorted(report.workflows.items()):
        rows.add_row(name, str(count.followed), str(count.failed))
    console.show(rows)
    for failure in report.failures:
        console.say(_words(failure))
    executions = "execution" if report.executions == 1 else "executions"
    console.say(
        f"{report.executions} {executions}, {report.events} events: "
        + (f"{len(report.failures)} diverge" if report.failures else "the code follows all")
    )


def _words(failure: Failure) -> str:
    head = f"≠ {failure.workflow} {failure.execution} ({failure.file})"
    if failure.sequence is None:
        return f"{head}: {failure.message}\n  next: {failure.hint}\n"
    return (
        f"{head} diverges at event {failure.sequence}\n"
        f"  the log holds  {failure.logged}\n  the code did   {failure.did}\n"
    )
