"""`litefleet demo`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fleet import console
from fleet.cli.options import S3, Bucket, Json, Region, fleet_prefix


class How(StrEnum):
    """How a host is lost."""

    KILL = "kill"
    FREEZE = "freeze"
    PARTITION = "partition"


def demo(
    tenants: Annotated[int, typer.Option(min=1, max=50, help="How many tenants.")] = 6,
    hosts: Annotated[int, typer.Option(min=1, max=20, help="How many hosts.")] = 3,
    documents: Annotated[
        int | None,
        typer.Option(min=1, help="How many documents for each tenant (default: all, up to 100)."),
    ] = None,
    input: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="A folder of text files (default: Python's own reference topics)."
        ),
    ] = None,
    lose: Annotated[int, typer.Option(min=0, help="How many hosts to lose, in turn.")] = 1,
    how: Annotated[How, typer.Option(help="How the hosts are lost.")] = How.KILL,
    s3: S3 = None,
    bucket: Bucket = "litefleet",
    region: Region = "us-east-1",
    seed: Annotated[int, typer.Option(help="Seed of the load's order and timers.")] = 1,
    as_json: Json = False,
    keep: Annotated[bool, typer.Option(help="Keep the demo's folder and say where.")] = False,
) -> None:
    """Run a fleet, destroy a host in the middle of the work, and count what was lost.

    Exit code 0 only if every execution finished with the right result and nothing that was
    acknowledged as durable is missing.
    """
    if lose >= hosts:
        raise typer.BadParameter(
            f"cannot lose {lose} of {hosts} hosts: one must survive", param_hint="--lose"
        )
    # Here and elsewhere, what only one command needs is imported by it: the others start faster.
    from fleet.demo.report import render
    from fleet.demo.run import DemoSettings, run_demo
    from fleet.external import external_store
    from fleet.interrupt import Interrupted

    store = external_store(s3, bucket, region, fleet_prefix("demo")) if s3 else None

    settings = DemoSettings(
        tenants=tenants,
        hosts=hosts,
        documents=documents,
        input=input,
        lose=lose,
        how=how.value,
        store=store,
        seed=seed,
        keep=keep,
    )
    try:
        report = run_demo(settings, live=not as_json and console.err.is_terminal)
    except Interrupted as stop:
        console.note("stopped; nothing is left running")
        raise typer.Exit(128 + stop.signal) from None
    if as_json:
        console.print_json(report)
    else:
        console.show(render(report))
    if not report.ok:
        raise typer.Exit(1)
