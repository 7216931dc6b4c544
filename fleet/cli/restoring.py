"""`litefleet tenant restore`, `fork` and `export`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleet import DEFAULT_NAME, console
from fleet.cli import connection
from fleet.cli.options import Address, Json, Name
from fleet.cli.tables import dated, details
from fleet.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.views import ForkWanted, RestoreView, RestoreWanted

LOOK_EVERY = 0.2
"""Seconds between two looks at a restore."""


def tenant_restore(
    tenant: Annotated[str, typer.Argument(help="Its name.")],
    at: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="2h-ago, or an ISO 8601 time with its zone."),
    ] = None,
    bookmark: Annotated[
        str | None, typer.Option(metavar="EPOCH:SEQUENCE", help="A bookmark of the tenant's.")
    ] = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="Go back to what the last restore has left.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only restore it somewhere harmless, and say what.")
    ] = False,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Take a tenant back to a past state, in place.

    The state is first restored elsewhere and checked. Then the tenant is stopped, with all of its
    present state in the bucket, and goes on from the past one. `--undo` takes that back.
    """
    wanted = _wanted(at, bookmark, undo, dry_run)
    with connection.connect(name, address) as client:
        begun = client.restore_tenant(tenant, wanted)
        view = _follow(begun, lambda: client.restore(tenant))
    _tell(view, as_json)


def tenant_fork(
    source: Annotated[str, typer.Argument(help="The tenant to be forked.")],
    tenant: Annotated[str, typer.Argument(help="The new tenant's name.")],
    at: Annotated[
        str,
        typer.Option(metavar="WHEN", help="now, 2h-ago, or an ISO 8601 time with its zone."),
    ] = "now",
    bookmark: Annotated[
        str | None, typer.Option(metavar="EPOCH:SEQUENCE", help="A bookmark of the source's.")
    ] = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Make a new tenant of a state of another one, which is not touched.

    It has a lineage of its own, and with it other idempotency keys. All that was open in it is
    paused, its schedules are as well.
    """
    wanted = _wanted_fork(tenant, at, bookmark)
    with connection.connect(name, address) as client:
        begun = client.fork_tenant(source, wanted)
        view = _follow(begun, lambda: client.fork(source, tenant))
    _tell(view, as_json)


def tenant_export(
    tenant: Annotated[str, typer.Argument(help="Its name.")],
    to: Annotated[Path, typer.Option(metavar="FILE", help="The file to make; it must not exist.")],
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Bring a tenant's live database to one file: whole, checked, as of one moment."""
    from fleet.exporting import export_tenant
    from fleet.past import refuse_place

    refuse_place(to.absolute())
    with connection.connect(name, address) as client, console.err.status("copying it") as status:
        found = export_tenant(
            client,
            tenant,
            to.absolute(),
            lambda done, of: status.update(f"{done:,} of {of:,} bytes"),
        )
    if as_json:
        console.print_json(found)
        return
    rows = {"tenant": tenant, "file": str(to), "bookmark": found.bookmark, "as of": ""}
    rows |= {"as of": dated(found.made_at), "bytes": f"{found.size:,}", "sha256": found.sha256}
    console.show(details(rows))


def _tell(view: RestoreView, as_json: bool) -> None:
    if as_json:
        console.print_json(view)
        if view.problem is not None:
            raise typer.Exit(1)
        return
    if view.problem is not None:
        raise Problem(view.problem.type, view.problem.message, view.problem.hint)
    _show(view)


def _wanted(at: str | None, bookmark: str | None, undo: bool, check: bool) -> RestoreWanted:
    from fleet.moments import parse_moment
    from fleet.views import RestoreWanted
    from restore.moment import AtBookmark, AtTime

    if (at is not None) + (bookmark is not None) + undo != 1:
        raise typer.BadParameter("choose one of --at, --bookmark and --undo")
    if undo:
        return RestoreWanted(undo=True, check=check)
    moment = parse_moment(str(bookmark if at is None else at), time.time())
    if isinstance(moment, AtBookmark):
        return RestoreWanted(bookmark=f"{moment.epoch}:{moment.sequence}", check=check)
    if not isinstance(moment, AtTime):
        raise Problem("bad_moment", "A tenant is at its present already.", "Name a past time.")
    return RestoreWanted(at=moment.at, check=check)


def _wanted_fork(name: str, at: str, bookmark: str | None) -> ForkWanted:
    from fleet.moments import parse_moment
    from fleet.views import ForkWanted
    from restore.moment import AtBookmark, AtTime

    if bookmark is not None and at != "now":
        raise typer.BadParameter("choose --at or --bookmark")
    moment = parse_moment(at if bookmark is None else bookmark, time.time())
    if isinstance(moment, AtBookmark):
        return ForkWanted(name=name, bookmark=f"{moment.epoch}:{moment.sequence}")
    return ForkWanted(name=name, at=moment.at if isinstance(moment, AtTime) else None)


def _follow(view: RestoreView, look: Callable[[], RestoreView]) -> RestoreView:
    """Wait for its end. The fleet goes on with it without us, too."""
    from fleet.client import FleetUnreachable

    with console.err.status(_words(view)) as status:
        silent = 0
        while not view.over:
            time.sleep(LOOK_EVERY)
            try:
                view = look()
            except FleetUnreachable:
                silent += 1
                if silent > 25:
                    raise
            else:
                silent = 0
                status.update(_words(view))
    return view


def _words(view: RestoreView) -> str:
    if view.state == "rehearsing":
        return f"restoring that state of {view.source or view.tenant} elsewhere, to check it"
    if view.state == "stopping":
        return f"stopping {view.tenant}, with all of its present state in the bucket"
    return f"{view.tenant} is made of {view.bookmark}"


def _show(view: RestoreView) -> None:
    rows = {
        "tenant": view.tenant,
        "bookmark": view.bookmark or "",
        "state of": dated(view.at),
        "last commit": dated(view.committed_at),
        "transaction": f"{view.txid} of epoch {view.epoch}",
        "executions": ", ".join(f"{number} {state}" for state, number in view.executions.items()),
    }
    if view.source is not None:
        rows["forked from"] = view.source
    elif view.new_epoch is not None:
        rows["epoch"] = f"{view.left} → {view.new_epoch}"
    console.show(details({key: value for key, value in rows.items() if value}))
    if view.source is not None:
        console.note(
            f"{view.tenant} serves; what was open in it is paused: `litefleet exec bulk resume "
            f"--tenant {view.tenant} …`, `litefleet schedule resume …`"
        )
    elif view.check:
        console.note("it was restored elsewhere and is whole; the tenant was not touched")
    else:
        console.note(
            f"{view.tenant} goes on from there; `litefleet tenant restore {view.tenant} --undo` "
            "takes it back"
        )
