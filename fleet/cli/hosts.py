"""`litefleet host …`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleet import DEFAULT_NAME, console
from fleet.cli import connection
from fleet.cli.options import Address, ConfigFile, Json, Name
from fleet.cli.tables import dated, table
from fleet.problem import Problem

if TYPE_CHECKING:
    from rich.table import Table

    from fleet.views import HostView

app = typer.Typer(help="Run hosts, look at them, and take them out of use.", no_args_is_help=True)
Host = Annotated[str, typer.Argument(help="Its name.")]
Why = Annotated[str, typer.Option(help="The reason, for those who look at it later.")]
LOOK_EVERY = 0.2
"""Seconds between two looks at a host that is being drained."""


@app.command("run")
def host_run(
    settings: Annotated[
        Path | None,
        typer.Argument(help="Its settings file (JSON, mode 0600), instead of litefleet.toml."),
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Run this machine's host agent: until Ctrl-C, with which its tenants are given back; until
    SIGHUP, and they run on for the agent that comes next."""
    from fleet.agent.__main__ import main
    from fleet.config import load
    from fleet.settings import AgentSettings

    read = AgentSettings.read
    if main((lambda: read(settings)) if settings is not None else load(config).for_host):
        raise Problem(
            "host_ended",
            "The host agent has ended; the line above says why.",
            "See `litefleet doctor`.",
        )


@app.command("list")
def host_list(name: Name = DEFAULT_NAME, address: Address = None, as_json: Json = False) -> None:
    """List the hosts, their leases and their tenants."""
    with connection.connect(name, address) as client:
        hosts = client.hosts()
    if as_json:
        console.print_json(hosts)
    else:
        console.show(_host_table(hosts))


@app.command("cordon")
def host_cordon(
    host: Host,
    why: Why = "",
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Give a host no more tenants. Those that it has stay."""
    with connection.connect(name, address) as client:
        view = client.cordon(host, why=why)
    _tell(view, as_json, f"{host} is given no more tenants")


@app.command("uncordon")
def host_uncordon(
    host: Host, name: Name = DEFAULT_NAME, address: Address = None, as_json: Json = False
) -> None:
    """Give a host tenants again, after `cordon` or `drain`."""
    with connection.connect(name, address) as client:
        view = client.uncordon(host)
    _tell(view, as_json, f"{host} takes tenants")


@app.command("drain")
def host_drain(
    host: Host,
    why: Why = "",
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait until it is empty; 0 does not wait.")
    ] = 600.0,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Move all tenants of a host to others, a few at a time, and give it no more.

    Each stops only when all of its log is in the bucket, and when another host has room for it.
    """
    with connection.connect(name, address) as client:
        view = client.cordon(host, drain=True, why=why)
        until, of = time.monotonic() + wait, len(view.tenants)
        with console.err.status(f"draining {host}") as status:
            while view.tenants and time.monotonic() < until:
                status.update(f"draining {host}: {len(view.tenants)} of {of} tenants are left")
                time.sleep(LOOK_EVERY)
                view = client.host(host)
    if wait and view.tenants:
        left = ", ".join(view.tenants[:5]) + (", …" if len(view.tenants) > 5 else "")
        raise Problem(
            "not_drained",
            f"{host} still runs {len(view.tenants)} tenants after {wait:.0f} s: {left}",
            "It goes on with that. `litefleet host list` tells whether other hosts take tenants, "
            f"`litefleet host uncordon {host}` ends it.",
        )
    _tell(view, as_json, f"{host} is empty" if not view.tenants else f"{host} is being drained")


def _tell(view: HostView, as_json: bool, words: str) -> None:
    if as_json:
        console.print_json(view)
    else:
        console.note(words)


@app.command("remains")
def host_remains(
    host: Annotated[str, typer.Argument(help="Its name.")],
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Show what ended nodes have left on a host's disk, and what becomes of it."""
    with connection.connect(name, address) as client:
        found = client.remains(host)
    if as_json:
        console.print_json(found)
        return
    rows = table("tenant", "epoch", "put away", "bytes", "goes", "why", right=("epoch", "bytes"))
    for one in found:
        goes = "yes" if one.goes else "no"
        at = dated(one.put_away_at, "seconds")
        rows.add_row(one.tenant, str(one.epoch), at, f"{one.bytes:,}", goes, one.reason)
    console.show(rows)


def _host_table(hosts: list[HostView]) -> Table:
    rows = table("host", "state", "lease age", "address", "tenants", right=("lease age",))
    for one in hosts:
        rows.add_row(
            one.name,
            _state(one),
            console.age(one.lease_age_seconds),
            one.address or "",
            ", ".join(one.tenants),
        )
    return rows


def _state(view: HostView) -> str:
    if view.state == "fenced" or not view.cordoned:
        return view.state
    return f"{view.state}, {'drained' if view.draining else 'cordoned'}"
