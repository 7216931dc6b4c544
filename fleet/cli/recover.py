"""`litefleet recover`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fleet import DEFAULT_NAME, console
from fleet.cli.connection import bucket_of
from fleet.cli.options import S3, Bucket, Json, Name, Region
from fleet.cli.tables import table
from fleet.problem import Problem

if TYPE_CHECKING:
    from rich.table import Table

    from fleet.recovery import Finding


def recover(
    tenants: Annotated[
        list[str] | None, typer.Argument(help="Their names; without any, all of the fleet's.")
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Write what is missing. Without it, only look.")
    ] = False,
    doubtful: Annotated[
        bool, typer.Option("--doubtful", help="With --apply: write what is doubtful as well.")
    ] = False,
    app: Annotated[
        list[str] | None,
        typer.Option(metavar="TENANT=MODULE", help="The application of a tenant (repeatable)."),
    ] = None,
    name: Name = DEFAULT_NAME,
    s3: S3 = None,
    bucket: Bucket = "litefleet",
    region: Region = "us-east-1",
    as_json: Json = False,
) -> None:
    """Rebuild lost or damaged records of tenants from the bucket alone."""
    from backup.store import S3Store
    from fleet import recovering
    from fleet.coordinator.seating import TENANT

    given = dict(_pair(one) for one in app or ())
    settings = bucket_of(name, s3, bucket, region)
    store, coordinators = S3Store(settings), S3Store(settings.of_coordinators)
    with console.err.status("reading the bucket") as status:
        found = recovering.look(
            store,
            coordinators,
            tenants=tenants or (),
            given=given,
            progress=lambda who: status.update(f"reading the records of {who}"),
        )
    written: dict[int, str] = {}
    for at, one in enumerate(found):
        own = not tenants and at == len(found) - 1 and one.tenant == TENANT
        if apply and (one.state == "missing" or (one.state == "doubtful" and doubtful)):
            written[at] = recovering.write(coordinators if own else store, one)
    if as_json:
        console.print_json({"items": [_json(one, written.get(at)) for at, one in enumerate(found)]})
    else:
        console.show(_table(found, written))
    left = [one for at, one in enumerate(found) if one.state != "whole" and at not in written]
    if left and not as_json:
        console.note(
            f"{len(left)} not written"
            + ("" if apply else "; nothing was changed: --apply writes what is missing")
        )
    if left:
        raise typer.Exit(1)


def _pair(text: str) -> tuple[str, str]:
    tenant, _, module = text.partition("=")
    if not tenant or not module:
        raise Problem("bad_app", f"{text!r} is not TENANT=MODULE.", "Use --app orders=shop.orders.")
    return tenant, module


def _json(one: Finding, written: str | None) -> dict[str, object]:
    return {
        "tenant": one.tenant,
        "state": one.state,
        "found": list(one.found),
        "doubts": list(one.doubts),
        "wanted": one.wanted.model_dump(mode="json") if one.wanted is not None else None,
        "owner": one.owner.model_dump(mode="json") if one.owner is not None else None,
        "written": written,
    }


def _table(found: list[Finding], written: dict[int, str]) -> Table:
    rows = table("tenant", "state", "what was found", "doubts", "done")
    for at, one in enumerate(found):
        rows.add_row(
            one.tenant,
            one.state,
            "; ".join(one.found),
            "; ".join(one.doubts),
            written.get(at, ""),
        )
    return rows
