"""`litefleet restore`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleet import DEFAULT_NAME, console
from fleet.cli.connection import bucket_of
from fleet.cli.options import S3, Bucket, Json, Name, Region
from fleet.cli.tables import dated, details
from fleet.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.past import PlannedRestore


def restore(
    tenant: Annotated[str, typer.Argument(help="Its name.")],
    to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The file to make; it must not exist.")
    ] = None,
    at: Annotated[
        str,
        typer.Option(
            metavar="WHEN",
            help="now, 2h-ago, an ISO 8601 time with its zone, or a bookmark (epoch:sequence).",
        ),
    ] = "now",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it would take, and what is missing.")
    ] = False,
    in_spite_of_damage: Annotated[
        bool,
        typer.Option(
            "--in-spite-of-damage",
            help="Where the chain is damaged, take the newest state before the damage.",
        ),
    ] = False,
    app: Annotated[
        str | None,
        typer.Option(
            metavar="APP",
            help="Code to replay its open executions with, before the file is put in its place: "
            "app.py, package.module, or FOLDER:module.",
        ),
    ] = None,
    name: Name = DEFAULT_NAME,
    s3: S3 = None,
    bucket: Bucket = "litefleet",
    region: Region = "us-east-1",
    as_json: Json = False,
) -> None:
    """Restore a tenant's present or past to a file, and verify it. The tenant is not touched.

    What is cut off is gone on with by the same command: only what is missing is fetched.
    """
    from fleet.moments import parse_moment
    from fleet.past import bring_past, plan_past

    moment = parse_moment(at, time.time())
    settings = bucket_of(name, s3, bucket, region)
    if dry_run:
        plan = plan_past(settings, tenant, moment)
        _show(plan, as_json)
        if plan.missing is not None:
            raise typer.Exit(1)
        return
    if to is None:
        raise Problem("no_file", "A restore needs a file to make.", "Name it with --to.")
    with console.transfers() as progress:
        task = progress.add_task("fetching", total=None)
        done = bring_past(
            settings,
            tenant,
            moment,
            to.absolute(),
            in_spite_of_damage=in_spite_of_damage,
            say=console.note,
            progress=lambda here, of: progress.update(task, completed=here, total=of),
            probe=_follows(app) if app is not None else _nothing,
        )
    _show(done, as_json)


def _nothing(database: Path) -> None:
    """No probe."""


def _follows(app: str) -> Callable[[Path], None]:
    """Whether an application follows the open executions of a log."""
    from fleet.application import load
    from node.engine.upgrade import check_upgrade

    application = load(app)

    def probe(database: Path) -> None:
        console.note(f"replaying its open executions with {app}")
        report = check_upgrade(database, application)
        if not report.ok:
            first = report.findings[0]
            raise Problem(
                "not_followed",
                f"{len(report.findings)} of {report.executions} open executions do not follow "
                f"{app}, such as {first.execution}: {first.message}",
                "Choose the code that ran then, or leave out --app to have the file all the same; "
                "nothing is fetched a second time.",
            )

    return probe


def _show(found: PlannedRestore, as_json: bool) -> None:
    if as_json:
        console.print_json(found)
        return
    fields = found.model_dump(exclude_none=True)
    for key in ("at", "committed_at"):
        if key in fields:
            fields[key] = dated(fields[key])
    if "executions" in fields:
        counts = fields["executions"]
        fields["executions"] = ", ".join(f"{number} {state}" for state, number in counts.items())
    if "seconds" in fields:
        fields["seconds"] = f"{fields['seconds']:.2f}"
    fields["bytes"] = f"{fields['bytes']:,}"
    console.show(details({key.replace("_", " "): str(value) for key, value in fields.items()}))
