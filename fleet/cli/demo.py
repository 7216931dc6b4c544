"""`litefleet demo` and `litefleet practice`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleet import console
from fleet.cli.options import S3, Bucket, Json, Region, fleet_prefix

if TYPE_CHECKING:
    from fleet.demo.run import DemoSettings


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
    from fleet.demo.run import DemoSettings
    from fleet.external import external_store

    store = external_store(s3, bucket, region, fleet_prefix("demo")) if s3 else None
    _play(
        DemoSettings(
            tenants=tenants,
            hosts=hosts,
            documents=documents,
            input=input,
            lose=lose,
            how=how.value,
            store=store,
            seed=seed,
            keep=keep,
        ),
        as_json,
    )


def practice(
    lose: Annotated[
        list[str], typer.Option(metavar="HOST", help="The host to lose: host-1, … (repeatable).")
    ],
    hosts: Annotated[int, typer.Option(min=2, max=20, help="How many hosts.")] = 3,
    tenants: Annotated[int, typer.Option(min=1, max=50, help="How many tenants.")] = 6,
    how: Annotated[How, typer.Option(help="How the hosts are lost.")] = How.KILL,
    s3: S3 = None,
    bucket: Bucket = "litefleet",
    region: Region = "us-east-1",
    as_json: Json = False,
    keep: Annotated[bool, typer.Option(help="Keep the fleet's folder and say where.")] = False,
) -> None:
    """Destroy a host of a practice fleet on purpose, and report what came of it.

    The fleet is one of its own, with work of its own: no other is touched. In the middle of its
    work the named hosts are lost, one after the other. The report and the exit code are the demo's.
    """
    there = [f"host-{number}" for number in range(1, hosts + 1)]
    strange = [name for name in lose if name not in there]
    if strange:
        raise typer.BadParameter(
            f"there is no {strange[0]}; the hosts are {', '.join(there)}", param_hint="--lose"
        )
    if len(set(lose)) < len(lose) or len(lose) >= hosts:
        raise typer.BadParameter(
            "each host can be lost once, and one must survive", param_hint="--lose"
        )
    if tenants < hosts:
        raise typer.BadParameter(
            "with fewer tenants than hosts, the one that is lost may have none",
            param_hint="--tenants",
        )
    from fleet.demo.run import DemoSettings
    from fleet.external import external_store

    store = external_store(s3, bucket, region, fleet_prefix("practice")) if s3 else None
    _play(
        DemoSettings(
            tenants=tenants,
            hosts=hosts,
            lose=len(lose),
            named=tuple(lose),
            how=how.value,
            store=store,
            keep=keep,
        ),
        as_json,
    )


def _play(settings: DemoSettings, as_json: bool) -> None:
    # Here and elsewhere, what only one command needs is imported by it: the others start faster.
    from fleet.demo.report import render
    from fleet.demo.run import run_demo
    from fleet.interrupt import Interrupted

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
