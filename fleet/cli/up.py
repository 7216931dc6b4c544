"""`litefleet up`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fleet import DEFAULT_NAME
from fleet.cli.options import S3, Bucket, Json, Name, Region


def up(
    hosts: Annotated[int, typer.Option(min=1, max=20, help="How many hosts.")] = 3,
    coordinators: Annotated[
        int, typer.Option(min=1, max=5, help="How many coordinators; one of them is active.")
    ] = 1,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Keep everything in this folder (default: a temporary one)."
        ),
    ] = None,
    s3: S3 = None,
    bucket: Bucket = "litefleet",
    region: Region = "us-east-1",
    name: Name = DEFAULT_NAME,
    as_json: Json = False,
) -> None:
    """Run a fleet on this machine until Ctrl-C."""
    from fleet import state
    from fleet.external import external_store
    from fleet.up import run_up

    # Checked before anything is started: --name also names the fleet's place in the bucket.
    state.path_of(name)
    store = external_store(s3, bucket, region, name) if s3 else None
    run_up(
        name=name, hosts=hosts, coordinators=coordinators, data=data, store=store, as_json=as_json
    )
