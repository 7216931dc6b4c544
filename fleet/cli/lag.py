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
    from rich.table import Table

    from fleet.client import Client
    from fleet.views import LagView


def lag(
    watch: Annotated[bool, typer.Option(help="Repeat every second until Ctrl-C.")] = False,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Show how far each tenant's replica is behind its log."""
    with connection.connect(name, address) as client:
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
    from rich.live import Live

    with Live(_lag_table(client.lag()), console=console.out, auto_refresh=False) as live:
        while True:
            time.sleep(1.0)
            live.update(_lag_table(client.lag()), refresh=True)


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
