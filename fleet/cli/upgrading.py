"""`litefleet tenant upgrade`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from fleet import DEFAULT_NAME, console
from fleet.cli import connection
from fleet.cli.options import Address, Json, Name
from fleet.cli.tables import table
from fleet.cli.upgrade import Keep, show_report
from fleet.problem import Problem

if TYPE_CHECKING:
    from fleet.client import Client
    from fleet.views import UpgradeView

LOOK_EVERY = 0.2
"""Seconds between two looks at an upgrade."""


def tenant_upgrade(
    tenant: Annotated[str, typer.Argument(help="Its name.")],
    module: Annotated[
        str | None,
        typer.Option(
            "--app",
            metavar="APP",
            help="The new code: package.module or FOLDER:module. By default what it has, read "
            "again.",
        ),
    ] = None,
    keep: Keep = None,
    keep_none: Annotated[
        bool, typer.Option("--keep-none", help="Keep no older version any more.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Say what would happen, and change nothing.")
    ] = False,
    pin_diverging: Annotated[
        bool,
        typer.Option(
            "--pin-diverging",
            help="Pin what would diverge to the version that runs it now, and keep that.",
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Let what would diverge stand still.")
    ] = False,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Run a tenant's executions with other code, after a check that they follow it.

    The check replays every open execution on the tenant's own host while its engine serves. Only
    if none would be stopped, the engine is restarted in place. Exit code 1 if it is refused.
    """
    from fleet.views import UpgradeWanted

    if pin_diverging and force:
        raise typer.BadParameter("choose --pin-diverging or --force")
    if keep and keep_none:
        raise typer.BadParameter("choose --keep or --keep-none")
    wanted = UpgradeWanted(
        app=module,
        keep=[] if keep_none else keep,
        check=check,
        stopped="pin" if pin_diverging else "force" if force else "refuse",
    )
    with connection.connect(name, address) as client:
        view = _follow(client, client.upgrade_tenant(tenant, wanted))
    if as_json:
        console.print_json(view)
    elif view.report is not None:
        from node.engine.upgrade import UpgradeReport

        show_report(UpgradeReport.model_validate(view.report), view.left_out)
        if view.stopped_before:
            console.say(f"{view.stopped_before} of them stand still with the present code already")
    if view.problem is not None and not as_json:
        raise Problem(view.problem.type, view.problem.message, view.problem.hint)
    if view.state != "done" or (check and view.would_stop):
        raise typer.Exit(1)
    if not as_json and not check:
        _show_end(view)


def _follow(client: Client, view: UpgradeView) -> UpgradeView:
    """Wait for its end. The fleet goes on with it without us, too."""
    from fleet.client import FleetUnreachable

    with console.err.status(_words(view)) as status:
        silent = 0
        while not view.over:
            time.sleep(LOOK_EVERY)
            try:
                view = client.upgrade(view.tenant)
            except FleetUnreachable:
                silent += 1
                if silent > 25:
                    raise
            else:
                silent = 0
                status.update(_words(view))
    return view


def _words(view: UpgradeView) -> str:
    if view.state == "checking":
        of = f": {view.done} of {view.of} executions" if view.of else ""
        return f"checking {view.app}{of}"
    if view.state == "pinning":
        return f"pinning: {view.pinned} executions"
    return f"{view.tenant} is restarted with {view.app}"


def _show_end(view: UpgradeView) -> None:
    if view.pinned:
        console.say(f"{view.pinned} executions were pinned to the version that ran them")
    rows = table("version", "", "open", "pinned", right=("open", "pinned"))
    for one in view.versions:
        standing = "current" if one["current"] else "kept" if one["loaded"] else "waited for"
        rows.add_row(one["version"] or "(none)", standing, str(one["open"]), str(one["pinned"]))
    console.show(rows)
    if view.stopped:
        console.say(
            f"{view.stopped} executions stand still: `litefleet exec list --tenant"
            f" {view.tenant} --status diverged` (or parked)"
        )
    console.note(f"{view.tenant} runs {view.app}, release {view.release}")
