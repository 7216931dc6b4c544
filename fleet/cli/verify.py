"""`litefleet verify`."""

from __future__ import annotations

from typing import Annotated

import typer

from fleet import DEFAULT_NAME, console
from fleet.cli.connection import bucket_of
from fleet.cli.options import S3, Bucket, Json, Name, Region
from fleet.cli.tables import table


def verify(
    tenants: Annotated[
        list[str] | None, typer.Argument(help="Their names; without any, all of the fleet's.")
    ] = None,
    all_epochs: Annotated[
        bool, typer.Option("--all-epochs", help="The whole past, not only the newest epoch.")
    ] = False,
    name: Name = DEFAULT_NAME,
    s3: S3 = None,
    bucket: Bucket = "litefleet",
    region: Region = "us-east-1",
    as_json: Json = False,
) -> None:
    """Read tenants' chains in the bucket and check every file, without restoring anything."""
    from fleet.chains import verify_chains

    settings = bucket_of(name, s3, bucket, region)
    with console.transfers() as progress:
        task = progress.add_task("reading", total=None)
        found = verify_chains(
            settings,
            tenants,
            all_epochs=all_epochs,
            progress=lambda what, done, total: progress.update(
                task, description=what, completed=done, total=total
            ),
        )
    if as_json:
        console.print_json(found)
    else:
        columns = ("tenant", "epoch", "files", "bytes", "reaches", "verdict")
        rows = table(*columns, right=("epoch", "files", "bytes", "reaches"))
        for chain in found:
            rows.add_row(
                chain.tenant,
                str(chain.epoch),
                str(chain.files),
                f"{chain.bytes:,}",
                f"{chain.reachable} of {chain.wanted}",
                "whole" if chain.whole else "; ".join(chain.findings),
            )
        console.show(rows)
    if not all(chain.whole for chain in found):
        raise typer.Exit(1)
