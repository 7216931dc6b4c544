"""Options that several commands have."""

from __future__ import annotations

import os
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class DurabilityChoice(StrEnum):
    """When a tenant's log must be in the bucket."""

    ASYNC = "async"
    BEFORE_EFFECTS = "before_effects"
    EVERY_COMMIT = "every_commit"


Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Name = Annotated[
    str,
    typer.Option("--name", envvar="LITEFLEET_NAME", help="The fleet's name on this machine."),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        envvar="LITEFLEET_ADDRESS",
        help="Address of a coordinator elsewhere (with LITEFLEET_TOKEN).",
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar="LITEFLEET_CONFIG",
        metavar="FILE",
        help="By default ./litefleet.toml, then /etc/litefleet/litefleet.toml.",
    ),
]
S3 = Annotated[
    str | None,
    typer.Option(
        "--s3",
        metavar="URL",
        help="An S3-compatible store instead of the embedded one. Its access key comes from "
        "LITEFLEET_S3_ACCESS_KEY_ID and LITEFLEET_S3_SECRET_ACCESS_KEY (or AWS_...).",
    ),
]
Bucket = Annotated[str, typer.Option(help="The bucket, with --s3.")]
Region = Annotated[str, typer.Option(help="The store's region, with --s3.")]


def fleet_prefix(kind: str) -> str:
    """A place of its own in a shared bucket, so that two demos never meet."""
    return f"{kind}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{os.urandom(3).hex()}"
