"""`litefleet lag`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from fleet import DEFAULT_NAME, console
from fleet.cli import connection
from fleet.cli.options import Address, Json, Name
from fleet.cli.tables import position, table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from fleet.client import Client
    from fleet.views import LagView


def lag(
    watch: Annotated[bool, typer.Option(help="Repeat every second until Ctrl-C.")] = False,
    max_seconds: Annotated[
        float | None,
        typer.Option(min=0, help="Fail if a tenant's lag is longer than this, or not known."),
    ] = None,
    max_txids: Annotated[
        int | None,
        typer.Option(min=0, help="Fail if more txids than this wait, or it is not known."),
    ] = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Show how far each tenant's replica is behind its log."""
    with connection.connect(name, address) as client:
        try:
            late = _look(client, watch, as_json, max_seconds, max_txids)
        except KeyboardInterrupt:
            return
    for words in late:
        console.note(words)
    if late:
        raise typer.Exit(1)


def _look(
    client: Client, watch: bool, as_json: bool, seconds: float | None, txids: int | None
) -> list[str]:
    """Show the lag, once or until a threshold is passed; who has passed it."""
    rows = client.lag()
    if as_json or not watch:
        while True:
            if as_json:
                console.print_json(rows)
            else:
                console.show(_lag_table(rows))
            if (late := over(rows, seconds, txids)) or not watch:
                return late
            time.sleep(1.0)
            rows = client.lag()
    from rich.live import Live

    with Live(_lag_table(rows), console=console.out, auto_refresh=False) as live:
        while not (late := over(rows, seconds, txids)):
            time.sleep(1.0)
            rows = client.lag()
            live.update(_lag_table(rows), refresh=True)
    return late


def over(rows: Iterable[LagView], seconds: float | None, txids: int | None) -> list[str]:
    """Every tenant that is further behind than allowed, in words. A lag that is not known is not
    taken for a small one."""
    found = []
    for row in rows:
        for value, most, unit in (
            (row.lag_seconds, seconds, "s"),
            (row.lag_txids, txids, "txids"),
        ):
            if most is None:
                continue
            if value is None:
                found.append(f"{row.tenant}: how far it is behind is not known")
                break
            if value > most:
                found.append(f"{row.tenant} is {value:.6g} {unit} behind, more than {most:.6g}")
    return found


def _lag_table(rows: list[LagView]) -> Table:
    columns = ("tenant", "host", "epoch", "sequence", "proven", "txid", "replicated", "lag")
    made = table(*columns, "alerts", right=columns[2:])
    for one in rows:
        made.add_row(
            one.tenant,
            one.host or "",
            str(one.epoch),
            str(one.sequence),
            position(one.proven_sequence),
            position(one.txid),
            position(one.replicated_txid),
            console.age(one.lag_seconds),
            "; ".join(alert.text for alert in one.alerts),
        )
    return made
