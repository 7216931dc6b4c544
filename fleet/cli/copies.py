"""`litefleet copy`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleet import DEFAULT_NAME, console
from fleet.cli import connection
from fleet.cli.connection import bucket_of
from fleet.cli.options import S3, Address, Bucket, Json, Name, Region
from fleet.cli.tables import dated, table

if TYPE_CHECKING:
    from rich.table import Table

    from fleet.views import CopyView

KEYS_VARIABLE = "LITEFLEET_COPY_KEYS"

app = typer.Typer(
    help="Independent copies of tenants: made by SQLite's own backup, not by Litestream.",
    no_args_is_help=True,
)


@app.command("make")
def make(
    tenants: Annotated[
        list[str] | None, typer.Argument(help="Their names; without any, all of the fleet's.")
    ] = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Copy tenants to the bucket now, where anything was committed since their newest copy."""
    with connection.connect(name, address) as client:
        done = []
        for tenant in tenants or sorted(one.name for one in client.tenants()):
            console.note(f"copying {tenant}")
            done.append(client.copy(tenant))
    _show(done, as_json)


@app.command("list")
def list_copies(
    tenant: Annotated[str, typer.Argument(help="Its name.")],
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Show a tenant's copies, oldest first."""
    with connection.connect(name, address) as client:
        found = client.copies(tenant)
    _show(found, as_json)


@app.command("fetch")
def fetch(
    tenant: Annotated[str, typer.Argument(help="Its name.")],
    to: Annotated[Path, typer.Option(metavar="FILE", help="The file to make; it must not exist.")],
    copy: Annotated[str, typer.Option(help="A copy's name; the newest by default.")] = "newest",
    keys: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The keyring, for a copy that is sealed."),
    ] = None,
    name: Name = DEFAULT_NAME,
    s3: S3 = None,
    bucket: Bucket = "litefleet",
    region: Region = "us-east-1",
    as_json: Json = False,
) -> None:
    """Bring a copy from the bucket to a file, verified. Needs the bucket only, and the keyring for
    one that is sealed."""
    from backup.sealing import KeySource
    from fleet.past import fetch_copy

    settings = bucket_of(name, s3, bucket, region)
    source = KeySource(file=keys) if keys is not None else None
    if source is None and KEYS_VARIABLE in os.environ:
        source = KeySource(env=KEYS_VARIABLE)
    found = fetch_copy(settings, tenant, copy, to.absolute(), source)
    _show([found], as_json)


@app.command("keyring")
def keyring(
    to: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The file to make, 0600; stdout by default."),
    ] = None,
    id: Annotated[str, typer.Option(help="The id of its key.")] = "1",
    as_json: Json = False,
) -> None:
    """Make a keyring with a new random key, for copies that are encrypted before they leave a
    host. Keep it where the bucket's loss or theft cannot reach it: without it, no copy is read."""
    from backup.sealing import new_keyring
    from fleet.past import refuse_place

    text = new_keyring(id)
    if to is None:
        console.print_json(json.loads(text))
        return
    refuse_place(to.absolute())
    to.touch(mode=0o600)
    to.write_text(text + "\n")
    if as_json:
        console.print_json({"file": str(to), "current": id})
    else:
        console.note(f"made {to}, with key {id!r}; keep a second one elsewhere")


def _show(copies: list[CopyView], as_json: bool) -> None:
    if as_json:
        console.print_json(copies)
    else:
        console.show(_table(copies))


def _table(copies: list[CopyView]) -> Table:
    made = table(
        "tenant", "copy", "made at", "bookmark", "size", "packed", right=("size", "packed")
    )
    for one in copies:
        made.add_row(
            one.tenant,
            one.name,
            dated(one.made_at, "seconds"),
            one.bookmark,
            f"{one.size:,}",
            f"{one.packed:,}",
        )
    return made
