"""`litefleet doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fleet import console
from fleet.cli.options import S3, Bucket, Json, Region, fleet_prefix


def doctor(
    s3: S3 = None,
    bucket: Bucket = "litefleet",
    region: Region = "us-east-1",
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder that `up --data` would use.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check that this machine and the store can carry a fleet, and say what to do if not."""
    from fleet.doctor import examine, render
    from fleet.external import external_store

    store = external_store(s3, bucket, region, fleet_prefix("doctor")) if s3 else None

    diagnosis = examine(store, data)
    if as_json:
        console.print_json(diagnosis)
    else:
        console.show(render(diagnosis))
    if not diagnosis.ok:
        raise typer.Exit(1)
