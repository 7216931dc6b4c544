"""`litefleet upgrade --check`, and how the report of a check is shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleet import console
from fleet.cli.options import DurabilityChoice, Json
from fleet.cli.tables import table
from fleet.problem import Problem

if TYPE_CHECKING:
    from node.engine.upgrade import Finding, UpgradeReport

#: Executions that are shown one by one.
SHOWN = 20

Keep = Annotated[
    list[str] | None,
    typer.Option(
        "--keep",
        metavar="FOLDER[:MODULE]",
        help="An older version of the application, for those that are pinned to it (repeatable).",
    ),
]


def upgrade(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE…",
            exists=True,
            help="Logs, exported executions, or folders of them (*.json, *.db).",
        ),
    ],
    app: Annotated[
        str,
        typer.Option(
            "--app", metavar="APP", help="The new code: app.py, package.module, or FOLDER:module."
        ),
    ],
    check: Annotated[
        bool, typer.Option("--check", help="Say what would happen, and change nothing.")
    ] = False,
    keep: Keep = None,
    durability: Annotated[
        DurabilityChoice, typer.Option(help="That of the tenants that logs are from.")
    ] = DurabilityChoice.ASYNC,
    as_json: Json = False,
) -> None:
    """Replay every open execution of a log against new code, and say which would not go on.

    Nothing has an effect, and the log may be in use. Exit code 1 if an execution would be stopped.
    For a tenant of a fleet: `litefleet tenant upgrade`.
    """
    if not check:
        raise Problem(
            "only_a_check",
            "There is nothing to be moved in a file: the engine that opens it brings its code.",
            "Add --check to see what that would mean; `litefleet tenant upgrade` moves a tenant.",
        )
    from fleet.application import load, load_older
    from fleet.upgrade import check_files
    from node.engine.durability import Durability

    application = load(app)
    kept = load_older(keep or (), app)
    floor = Durability(durability.value)
    with console.err.status("replaying") as status:
        report = check_files(
            files,
            application,
            kept,
            floor=floor,
            progress=lambda done, of: status.update(f"replaying: {done} of {of} executions"),
        )
    if as_json:
        console.print_json(report)
    else:
        show_report(report)
    if not report.ok:
        raise typer.Exit(1)


def show_report(report: UpgradeReport, left_out: int = 0) -> None:
    """Each workflow's executions in a table, then what stands in the way, then the patches.
    `left_out` findings are not in the report."""
    stopped = len(report.findings) + left_out
    columns = ("follow", "pinned", "diverge", "unknown", "parked")
    rows = table("workflow", *columns, right=columns)
    for name, count in sorted(report.workflows.items()):
        numbers = (
            count.follows,
            count.pinned,
            count.diverges,
            count.unknown_workflow,
            count.parked,
        )
        rows.add_row(name, *(str(number) if number else "" for number in numbers))
    if report.workflows:
        console.show(rows)
    for finding in report.findings[:SHOWN]:
        console.say(_words(finding))
    if stopped > SHOWN:
        console.say(f"… and {stopped - SHOWN} more; --json has more of them")
    for name, use in report.patches.items():
        if use.old_path_is_unused:
            console.say(
                f"patch {name}: no open execution has taken its old path, which may be removed"
            )
        else:
            console.say(f"patch {name}: {use.old} open executions have taken its old path")
    console.say(_summary(report, stopped))


def _summary(report: UpgradeReport, stopped: int) -> str:
    version = "without a version" if report.version is None else f"version {report.version}"
    what = f"{report.executions} open, {report.events} events, {report.application} {version}: "
    if report.ok:
        return what + "all go on"
    return what + f"{stopped} would not go on"


def _words(finding: Finding) -> str:
    pinned = f", pinned to {finding.version}" if finding.version else ""
    head = f"≠ {finding.workflow} {finding.execution}{pinned}"
    if finding.sequence is None or finding.logged is None:
        return f"{head}: {finding.message}\n  next: {finding.hint}"
    lines = [
        f"{head} diverges at event {finding.sequence}",
        f"  the log holds  {finding.logged}",
        f"  the code did   {finding.did}",
    ]
    if finding.missing:
        lines.append(f"  not declared   {', '.join(finding.missing)}")
    return "\n".join([*lines, f"  next: {finding.hint}"])
