"""The command line: `litefleet`.

Results go to stdout (as JSON with --json), progress and errors to stderr. Exit
codes: 0 done, 1 failed, 2 wrong usage.
"""

from __future__ import annotations

import os
import sys
import time
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.live import Live
from rich.table import Table

from fleet import console, state
from fleet.client import Client
from fleet.external import external_store
from fleet.interrupt import Interrupted
from fleet.problem import Problem
from fleet.views import HostView, LagView, TenantView

app = typer.Typer(
    name="litefleet",
    help="A fleet of small servers, each with its whole log in one SQLite file that is replicated "
    "to object storage. Lose a host, lose nothing.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
tenant_app = typer.Typer(help="Create tenants and look at them.", no_args_is_help=True)
host_app = typer.Typer(help="Look at hosts.", no_args_is_help=True)
app.add_typer(tenant_app, name="tenant")
app.add_typer(host_app, name="host")


class DurabilityChoice(StrEnum):
    """When a tenant's log must be in the bucket."""

    ASYNC = "async"
    BEFORE_EFFECTS = "before_effects"
    EVERY_COMMIT = "every_commit"


class How(StrEnum):
    """How a host is lost."""

    KILL = "kill"
    FREEZE = "freeze"
    PARTITION = "partition"


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


def connect(name: str, address: str | None) -> Client:
    """A client for the fleet that the options name. Raises Problem when there is none."""
    if address is not None:
        token = os.environ.get("LITEFLEET_TOKEN")
        if not token:
            raise Problem(
                "no_token",
                "An address was given, but no token.",
                "Set LITEFLEET_TOKEN to the coordinator's token.",
            )
        return Client(address, token)
    running = state.read(name)
    if running is not None:
        return Client(running.address, running.token)
    others = [one.name for one in state.running()]
    if others:
        raise Problem(
            "no_fleet",
            f"No fleet named {name!r} is running on this machine.",
            f"These are: {', '.join(others)} (choose one with --name).",
        )
    raise Problem(
        "no_fleet",
        "No fleet is running on this machine.",
        "Start one with `litefleet up`, or name one with LITEFLEET_ADDRESS and LITEFLEET_TOKEN.",
    )


def _version(wanted: bool) -> None:
    if wanted:
        try:
            number = version("litefleet")
        except PackageNotFoundError:
            number = "unknown (not installed)"
        typer.echo(f"litefleet {number}")
        raise typer.Exit


@app.callback()
def root(
    show_version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    """A fleet of small servers, each with its whole log in one SQLite file."""


@app.command()
def demo(
    tenants: Annotated[int, typer.Option(min=1, max=50, help="How many tenants.")] = 6,
    hosts: Annotated[int, typer.Option(min=1, max=20, help="How many hosts.")] = 3,
    documents: Annotated[
        int | None,
        typer.Option(min=1, help="How many documents for each tenant (default: all, up to 100)."),
    ] = None,
    input: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="A folder of text files (default: Python's own reference topics)."
        ),
    ] = None,
    lose: Annotated[int, typer.Option(min=0, help="How many hosts to lose, in turn.")] = 1,
    how: Annotated[How, typer.Option(help="How the hosts are lost.")] = How.KILL,
    s3: S3 = None,
    bucket: Bucket = "litefleet",
    region: Region = "us-east-1",
    seed: Annotated[int, typer.Option(help="Seed of the load's order and timers.")] = 1,
    as_json: Json = False,
    keep: Annotated[bool, typer.Option(help="Keep the demo's folder and say where.")] = False,
) -> None:
    """Run a fleet, destroy a host in the middle of the work, and count what was lost.

    Exit code 0 only if every execution finished with the right result and nothing that was
    acknowledged as durable is missing.
    """
    if lose >= hosts:
        raise typer.BadParameter(
            f"cannot lose {lose} of {hosts} hosts: one must survive", param_hint="--lose"
        )
    store = external_store(s3, bucket, region, _fleet_prefix("demo")) if s3 else None
    # Here and below, what only one command needs is imported by it: the others start faster.
    from fleet.demo.report import render
    from fleet.demo.run import DemoSettings, run_demo

    settings = DemoSettings(
        tenants=tenants,
        hosts=hosts,
        documents=documents,
        input=input,
        lose=lose,
        how=how.value,
        store=store,
        seed=seed,
        keep=keep,
    )
    try:
        report = run_demo(settings, live=not as_json and console.err.is_terminal)
    except Interrupted as stop:
        console.note("stopped; nothing is left running")
        raise typer.Exit(128 + stop.signal) from None
    if as_json:
        console.print_json(report)
    else:
        console.show(render(report))
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def up(
    hosts: Annotated[int, typer.Option(min=1, max=20, help="How many hosts.")] = 3,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Keep everything in this folder (default: a temporary one)."
        ),
    ] = None,
    s3: S3 = None,
    bucket: Bucket = "litefleet",
    region: Region = "us-east-1",
    name: Name = state.DEFAULT_NAME,
    as_json: Json = False,
) -> None:
    """Run a fleet on this machine until Ctrl-C."""
    # Checked before anything is started: --name also names the fleet's place in the bucket.
    state.path_of(name)
    store = external_store(s3, bucket, region, name) if s3 else None
    from fleet.up import run_up

    run_up(name=name, hosts=hosts, data=data, store=store, as_json=as_json)


@tenant_app.command("create")
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
    name: Name = state.DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Create a tenant. It is recorded in the bucket before its engine is started."""
    variables = dict(_variable(text) for text in env or [])
    with connect(name, address) as client:
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


@tenant_app.command("list")
def tenant_list(
    name: Name = state.DEFAULT_NAME, address: Address = None, as_json: Json = False
) -> None:
    """List the tenants."""
    with connect(name, address) as client:
        tenants = client.tenants()
    if as_json:
        console.print_json(tenants)
    else:
        console.show(_tenant_table(tenants))


@tenant_app.command("show")
def tenant_show(
    tenant: Annotated[str, typer.Argument(help="Its name.")],
    name: Name = state.DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Show one tenant: where it is, how far its log is proven, and its recoveries."""
    with connect(name, address) as client:
        view = client.tenant(tenant)
    if as_json:
        console.print_json(view)
    else:
        console.show(_tenant_details(view))


@host_app.command("list")
def host_list(
    name: Name = state.DEFAULT_NAME, address: Address = None, as_json: Json = False
) -> None:
    """List the hosts, their leases and their tenants."""
    with connect(name, address) as client:
        hosts = client.hosts()
    if as_json:
        console.print_json(hosts)
    else:
        console.show(_host_table(hosts))


@app.command()
def lag(
    watch: Annotated[bool, typer.Option(help="Repeat every second until Ctrl-C.")] = False,
    name: Name = state.DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Show how far each tenant's replica is behind its log."""
    with connect(name, address) as client:
        if not watch:
            rows = client.lag()
            if as_json:
                console.print_json(rows)
            else:
                console.show(_lag_table(rows))
            return
        try:
            _watch_lag(client, as_json)
        except KeyboardInterrupt:
            return


def _watch_lag(client: Client, as_json: bool) -> None:
    if as_json:
        while True:
            console.print_json(client.lag())
            time.sleep(1.0)
    with Live(_lag_table(client.lag()), console=console.out, auto_refresh=False) as live:
        while True:
            time.sleep(1.0)
            live.update(_lag_table(client.lag()), refresh=True)


@app.command()
def resume(name: Name = state.DEFAULT_NAME, address: Address = None, as_json: Json = False) -> None:
    """Release the brake that holds failovers back when very many hosts are lost at once."""
    with connect(name, address) as client:
        client.resume()
    if as_json:
        console.print_json({"ok": True})
    else:
        console.note("the fleet goes on")


@app.command()
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
    store = external_store(s3, bucket, region, _fleet_prefix("doctor")) if s3 else None
    from fleet.doctor import examine, render

    diagnosis = examine(store, data)
    if as_json:
        console.print_json(diagnosis)
    else:
        console.show(render(diagnosis))
    if not diagnosis.ok:
        raise typer.Exit(1)


def _fleet_prefix(kind: str) -> str:
    """A place of its own in a shared bucket, so that two demos never meet."""
    return f"{kind}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{os.urandom(3).hex()}"


def _variable(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise typer.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--env")
    return key, value


def _table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    table = Table()
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left")
    return table


def _position(sequence: int | None) -> str:
    return "?" if sequence is None else str(sequence)


def _tenant_table(tenants: list[TenantView]) -> Table:
    columns = ("tenant", "state", "host", "epoch", "durability", "running", "done", "failed", "lag")
    table = _table(*columns, right=("epoch", "running", "done", "failed", "lag"))
    for one in tenants:
        counts = one.executions
        table.add_row(
            one.name,
            _state(one),
            one.host or "",
            str(one.epoch),
            one.durability,
            *(str(number) for number in (counts.running, counts.completed, counts.failed)),
            console.age(one.lag_seconds),
        )
    return table


def _state(view: TenantView) -> str:
    return "failing" if view.state == "active" and not view.serving else view.state


def _tenant_details(view: TenantView) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column()
    rows = {
        "tenant": view.name,
        "state": _state(view),
        "host": view.host or "",
        "epoch": str(view.epoch),
        "lineage": view.lineage or "",
        "app": view.app,
        "durability": view.durability,
        "executions": f"{view.executions.running} running, {view.executions.completed} completed, "
        f"{view.executions.failed} failed",
        "log": f"sequence {view.sequence}, proven to {_position(view.proven_sequence)}",
        "replica": f"txid {_position(view.txid)}, replicated to {_position(view.replicated_txid)}",
        "lag": console.age(view.lag_seconds),
    }
    if view.detail:
        rows["trouble"] = view.detail
    for key, value in rows.items():
        table.add_row(key, value)
    for one in view.recoveries:
        table.add_row(
            "recovery",
            f"{one.from_host} → {one.to_host}, epoch {one.from_epoch} → {one.epoch}, "
            f"{one.cause}, {one.rto_seconds:.2f} s",
        )
    return table


def _host_table(hosts: list[HostView]) -> Table:
    table = _table("host", "state", "lease age", "address", "tenants", right=("lease age",))
    for one in hosts:
        table.add_row(
            one.name,
            one.state,
            console.age(one.lease_age_seconds),
            one.address or "",
            ", ".join(one.tenants),
        )
    return table


def _lag_table(rows: list[LagView]) -> Table:
    columns = ("tenant", "host", "epoch", "sequence", "proven", "txid", "replicated", "lag")
    table = _table(*columns, right=columns[2:])
    for one in rows:
        table.add_row(
            one.tenant,
            one.host or "",
            str(one.epoch),
            str(one.sequence),
            _position(one.proven_sequence),
            _position(one.txid),
            _position(one.replicated_txid),
            console.age(one.lag_seconds),
        )
    return table


def main() -> None:
    """The entry point: every error becomes a message and an exit code, never a traceback."""
    try:
        app()
    except Exception as error:
        if os.environ.get("LITEFLEET_DEBUG"):
            raise
        problem = _problem_of(error)
        if "--json" in sys.argv[1:]:
            console.print_json(problem.as_json())
        console.complain(problem)
        sys.exit(1)


def _problem_of(error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, state.NameTaken):
        return Problem(
            "name_taken",
            f"{str(error)[0].upper()}{str(error)[1:]}.",
            "Stop it with Ctrl-C where it runs, or start another one beside it with --name.",
        )
    if isinstance(error, state.BadName):
        return Problem("bad_name", f"{error}.", "Choose another with --name.")
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return Problem("bad_value", f"{where}: {first['msg']}.")
    if isinstance(error, OSError) and error.filename is not None:
        return Problem(
            "file_error",
            f"{error.filename}: {error.strerror}.",
            "Check that the folder exists, can be written and has space left.",
        )
    return Problem(
        "unexpected",
        f"{type(error).__name__}: {error}",
        "This should not happen: run it again with LITEFLEET_DEBUG=1 and report what it shows.",
    )
