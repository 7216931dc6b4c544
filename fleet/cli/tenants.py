"""`litefleet tenant …`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from fleet import DEFAULT_NAME, console
from fleet.cli import changing, connection, deleting, epochs, moving, restoring, upgrading
from fleet.cli.options import Address, DurabilityChoice, Json, Name
from fleet.cli.tables import dated, details, position, table
from fleet.problem import Problem

if TYPE_CHECKING:
    from rich.table import Table

    from fleet.client import Client
    from fleet.views import TenantView

app = typer.Typer(help="Create tenants and look at them.", no_args_is_help=True)


@app.command("create")
def tenant_create(
    tenant: Annotated[str, typer.Argument(help="Its name: a-z, 0-9 and '-'.")],
    module: Annotated[
        str, typer.Option("--app", help="The Python module with its workflows.")
    ] = "examples.documents.app",
    durability: Annotated[
        DurabilityChoice, typer.Option(help="When its log must be in the bucket.")
    ] = DurabilityChoice.ASYNC,
    env: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A variable for its engine (repeatable)."),
    ] = None,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait until it serves; 0 does not wait.")
    ] = 30.0,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Create a tenant. It is recorded in the bucket before its engine is started."""
    variables = dict(_variable(text) for text in env or [])
    with connection.connect(name, address) as client:
        view = client.create_tenant(tenant, module, durability.value, variables)
        console.note(f"created tenant {view.name} ({view.app}, {view.durability})")
        view = _await_serving(client, view, wait)
    if as_json:
        console.print_json(view)
    elif view.serving:
        console.note(f"{view.name} serves on {view.host}")


def _await_serving(client: Client, view: TenantView, seconds: float) -> TenantView:
    """Wait until a tenant serves. Raises Problem when its engine does not start."""
    deadline = time.monotonic() + seconds
    while not view.serving and time.monotonic() < deadline:
        time.sleep(0.1)
        view = client.tenant(view.name)
        if view.state == "damaged" or (view.state == "active" and view.detail):
            break
    if view.serving or not seconds:
        return view
    raise Problem(
        "not_serving",
        f"Tenant {view.name} was created, but does not serve: "
        f"{view.detail or f'it is {view.state} after {seconds:.0f} s'}",
        f"Mend its application; it is started again by itself. `litefleet tenant show {view.name}` "
        "tells how it stands.",
    )


app.command("upgrade")(upgrading.tenant_upgrade)
app.command("set")(changing.tenant_set)
app.command("sleep")(moving.tenant_sleep)
app.command("wake")(moving.tenant_wake)
app.command("move")(moving.tenant_move)
app.command("restore")(restoring.tenant_restore)
app.command("fork")(restoring.tenant_fork)
app.command("export")(restoring.tenant_export)
app.command("delete")(deleting.tenant_delete)
app.command("undelete")(deleting.tenant_undelete)
app.command("receipt")(deleting.tenant_receipt)
app.command("epochs")(epochs.tenant_epochs)
app.command("hold")(epochs.tenant_hold)
app.command("unhold")(epochs.tenant_unhold)


@app.command("list")
def tenant_list(
    deleted: Annotated[
        bool, typer.Option("--deleted", help="Those that are deleted, and those that are gone.")
    ] = False,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """List the tenants."""
    with connection.connect(name, address) as client:
        if deleted:
            deletions = client.deletions()
            if as_json:
                console.print_json(deletions)
            else:
                console.show(deleting.deleted_table(deletions))
            return
        tenants = client.tenants()
    if as_json:
        console.print_json(tenants)
    else:
        console.show(_tenant_table(tenants))


@app.command("show")
def tenant_show(
    tenant: Annotated[str, typer.Argument(help="Its name.")],
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Show one tenant: where it is, how far its log is proven, and its recoveries."""
    with connection.connect(name, address) as client:
        view = client.tenant(tenant)
    if as_json:
        console.print_json(view)
    else:
        console.show(_tenant_details(view))


def _variable(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise typer.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--env")
    return key, value


def _tenant_table(tenants: list[TenantView]) -> Table:
    columns = ("tenant", "state", "host", "epoch", "durability", "running", "done", "failed", "lag")
    rows = table(*columns, right=("epoch", "running", "done", "failed", "lag"))
    for one in tenants:
        counts = one.executions
        rows.add_row(
            one.name,
            _state(one),
            one.host or "",
            str(one.epoch),
            one.durability,
            *(str(number) for number in (counts.running, counts.completed, counts.failed)),
            console.age(one.lag_seconds),
        )
    return rows


def _state(view: TenantView) -> str:
    return "failing" if view.state == "active" and not view.serving else view.state


def _tenant_details(view: TenantView) -> Table:
    rows = {
        "tenant": view.name,
        "state": _state(view),
        "host": view.host or "",
        "epoch": str(view.epoch),
        "lineage": view.lineage or "",
        "app": view.app,
        "kept": ", ".join(view.kept),
        "durability": view.durability,
        "executions": f"{view.executions.running} running, {view.executions.completed} completed, "
        f"{view.executions.failed} failed",
        "log": f"sequence {view.sequence}, proven to {position(view.proven_sequence)}",
        "replica": f"txid {position(view.txid)}, replicated to {position(view.replicated_txid)}",
        "lag": console.age(view.lag_seconds),
    }
    if not view.kept:
        del rows["kept"]
    if view.origin is not None:
        rows["made of"] = view.origin
    if view.asleep:
        rows["wakes"] = "when it is asked" if view.next_wake is None else dated(view.next_wake)
    if view.sleep_after is not None:
        rows["sleeps"] = (
            f"{view.sleep_after:g} s after its last work" if view.sleep_after else "never"
        )
    if view.limits is not None:
        given = view.limits.model_dump(exclude_none=True)
        rows["limits"] = ", ".join(f"{key} {value:g}" for key, value in given.items())
    if view.hold:
        rows["hold"] = "none of its epochs is removed"
    if view.deletion is not None:
        until = dated(view.deletion.purge_after, "seconds")
        rows["deleted"] = f"{view.deletion.phase}; it can be brought back until {until}"
        if view.deletion.phase == "purging":
            rows["deleted"] = "it is being removed"
        if view.deletion.blocked:
            rows["not removed"] = view.deletion.blocked
    if view.detail:
        rows["trouble"] = view.detail
    made = details(rows)
    for alert in view.alerts:
        made.add_row("alert", f"{alert.guard}: {alert.text}")
    for one in view.recoveries:
        made.add_row(
            "recovery",
            f"{one.from_host} → {one.to_host}, epoch {one.from_epoch} → {one.epoch}, "
            f"{one.cause}, {one.rto_seconds:.2f} s",
        )
    return made
