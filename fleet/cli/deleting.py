"""`litefleet tenant delete`, `undelete` and `receipt`."""

from __future__ import annotations

import getpass
import socket
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from fleet import DEFAULT_NAME, console
from fleet.cli import connection
from fleet.cli.options import Address, Json, Name
from fleet.cli.schedules.times import duration
from fleet.cli.tables import dated, details, table
from fleet.problem import Problem

if TYPE_CHECKING:
    from rich.table import Table

    from fleet.client import Client
    from fleet.deletion_views import ReceiptView
    from fleet.views import DeletionView

LOOK_EVERY = 0.2
"""Seconds between two looks at a deletion."""

Tenant = Annotated[str, typer.Argument(help="Its name.")]


def tenant_delete(
    tenant: Tenant,
    grace: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="For how long it can be brought back: 90s, 12h, 7d. By default as the "
            "coordinator's `grace_days` say.",
        ),
    ] = None,
    now: Annotated[
        bool, typer.Option("--now", help="Remove it at once: there is no way back.")
    ] = False,
    why: Annotated[str, typer.Option(help="The reason, for the receipt.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    wait: Annotated[
        float,
        typer.Option(min=0, help="Seconds to wait until it is stopped, with --now until removed."),
    ] = 60.0,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Delete a tenant: it is stopped, kept for a while, then removed with all that it had.

    Until its grace period ends, `litefleet tenant undelete` brings it back whole.
    """
    from fleet.deletion_views import DeletionWanted

    if now and grace is not None:
        raise typer.BadParameter("--now has no grace period", param_hint="--grace")
    seconds = 0.0 if now else None if grace is None else float(duration(grace))
    with connection.connect(name, address) as client:
        client.tenant(tenant)  # whoever asks for what is not there is told before being asked
        if not yes:
            _confirm(tenant, now, as_json)
        by = f"{getpass.getuser()}@{socket.gethostname()}"
        view = client.delete_tenant(tenant, DeletionWanted(grace_seconds=seconds, by=by, why=why))
        view = _follow(client, view, now, wait)
        receipt = client.receipts(tenant)[-1] if view.phase == "purged" else None
    if as_json:
        console.print_json(receipt or view)
    elif receipt is not None:
        console.show(_receipt(receipt))
    elif not now:
        console.note(f"{tenant} can be brought back until {dated(view.purge_after, 'seconds')}:")
        console.note(f"litefleet tenant undelete {tenant}")
        if view.hold:
            console.note(f"{tenant} is on hold: it is not removed before `tenant unhold {tenant}`")


def _confirm(tenant: str, now: bool, as_json: bool) -> None:
    """Have the name typed. Raises Problem where nobody can."""
    if as_json or not sys.stdin.isatty():
        raise Problem(
            "not_confirmed",
            f"{tenant} was not deleted: nobody is there to be asked.",
            "Say --yes if it is meant.",
        )
    what = "and removed at once, for good" if now else "and removed after its grace period"
    typed = typer.prompt(f"{tenant} will be stopped, {what}. Type its name", err=True)
    if typed.strip() != tenant:
        raise Problem("not_confirmed", f"{tenant} was not deleted: that is not its name.", None)


def _follow(client: Client, view: DeletionView, now: bool, wait: float) -> DeletionView:
    """Wait until the tenant is stopped, or with ``now`` removed. Raises Problem when it is not."""
    until, told = time.monotonic() + wait, ""
    while wait:
        words = view.phase + (f": {view.blocked}" if view.blocked else "")
        if words != told:
            console.note(f"{view.tenant} is {words}")
            told = words
        if view.phase == "purged" or (view.phase == "kept" and not now):
            return view
        if time.monotonic() > until:
            why = view.blocked or "its node has not stopped yet"
            if view.phase != "stopping":
                why = view.blocked or "that takes its time"
            raise Problem(
                "not_yet",
                f"{view.tenant} is {view.phase} after {wait:.0f} s: {why}",
                "It goes on by itself; `litefleet tenant list --deleted` tells how far it is.",
            )
        time.sleep(LOOK_EVERY)
        view = client.deletion(view.tenant)
    return view


def tenant_undelete(
    tenant: Tenant,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait until it serves; 0 does not wait.")
    ] = 60.0,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Bring a deleted tenant back, with everything, before its grace period ends."""
    with connection.connect(name, address) as client:
        client.undelete_tenant(tenant)
        view, until = client.tenant(tenant), time.monotonic() + wait
        while not view.serving and view.state != "damaged" and time.monotonic() < until:
            time.sleep(LOOK_EVERY)
            view = client.tenant(tenant)
    if as_json:
        console.print_json(view)
        return
    where = f"serves on {view.host}" if view.serving else f"is {view.state}"
    console.note(f"{tenant} is deleted no more; it {where}")


def tenant_receipt(
    tenant: Tenant, name: Name = DEFAULT_NAME, address: Address = None, as_json: Json = False
) -> None:
    """Show what was removed of the tenants that had this name and are gone."""
    with connection.connect(name, address) as client:
        found = client.receipts(tenant)
    if as_json:
        console.print_json(found)
        return
    if not found:
        console.note(f"nothing under the name {tenant} was ever removed")
    for one in found:
        console.show(_receipt(one))
    changed = [one.number for one in found if one.content and not one.intact]
    if changed:
        raise Problem(
            "receipt_changed",
            f"Receipt {changed[0]} of {tenant} is not what was written: its hash does not match.",
            "Somebody has changed the object in the bucket.",
        )


def _receipt(one: ReceiptView) -> Table:
    rows = {
        "tenant": f"{one.tenant} (deletion {one.number})",
        "lineage": f"{one.lineage}, up to epoch {one.epoch}",
        "asked": f"{dated(one.asked_at, 'seconds')} {one.by}".strip(),
        "why": one.why,
        "removed": f"{dated(one.began_at, 'seconds')} to {dated(one.purged_at, 'seconds')}"
        if one.purged_at is not None
        else f"since {dated(one.began_at, 'seconds')}, not ended yet",
        "in all": f"{one.total.objects:,} objects, {one.total.bytes:,} bytes",
    }
    if not one.why:
        del rows["why"]
    for kind, removed in one.kinds.items():
        rows[f"  {kind}"] = f"{removed.objects:,} objects, {removed.bytes:,} bytes"
    if one.late.objects:
        rows["  late"] = f"{one.late.objects:,} objects, {one.late.bytes:,} bytes"
    rows["keys"] = one.keys
    rows["versions"] = VERSIONS.get(one.versions, one.versions)
    for host, left in one.hosts.items():
        rows[f"  {host}"] = left.problem or f"{left.folders} folders, {left.bytes:,} bytes"
    rows["hash"] = one.content + ("" if one.intact or not one.content else " DOES NOT MATCH")
    return details(rows)


VERSIONS = {
    "off": "the bucket keeps none",
    "enabled": "THE BUCKET KEEPS THEM: what was removed is there until its own rules remove it",
    "suspended": "what the bucket kept before versions were suspended is still there",
    "unknown": "it is not known whether the bucket keeps them",
}


def deleted_table(deletions: list[DeletionView]) -> Table:
    """The tenants that are deleted."""
    rows = table("tenant", "phase", "asked", "by", "brought back until", "purged", "trouble")
    for one in deletions:
        rows.add_row(
            one.tenant,
            "kept, on hold" if one.phase == "kept" and one.hold else one.phase,
            dated(one.asked_at, "seconds"),
            one.by,
            dated(one.purge_after, "seconds") if one.phase in ("stopping", "kept") else "",
            dated(one.purged_at, "seconds"),
            one.blocked,
        )
    return rows
