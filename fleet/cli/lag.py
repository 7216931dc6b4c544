"""`litefleet lag`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from fleet import DEFAULT_NAME, console
from fleet.cli import connection
from fleet.cli.options import S3, Address, Bucket, Json, Name, Region
from fleet.cli.tables import position, table
from fleet.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from fleet.bucket_lag import BucketLagView
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
    max_bytes: Annotated[
        int | None,
        typer.Option(min=0, help="Fail if more bytes than this wait, or it is not known."),
    ] = None,
    from_bucket: Annotated[
        bool,
        typer.Option("--from-bucket", help="Look at the bucket itself, and believe nobody."),
    ] = False,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    s3: S3 = None,
    bucket: Bucket = "litefleet",
    region: Region = "us-east-1",
    as_json: Json = False,
) -> None:
    """Show how far each tenant's replica is behind its log.

    With `--from-bucket`, how far it is by what the bucket holds, against what hosts say of it.
    """
    if from_bucket:
        if watch or max_seconds is not None or max_bytes is not None:
            raise typer.BadParameter(
                "the bucket knows neither seconds nor bytes of what it does not have",
                param_hint="--from-bucket",
            )
        _look_at_bucket(name, address, s3, bucket, region, max_txids, as_json)
        return
    with connection.connect(name, address) as client:
        try:
            late = _look(client, watch, as_json, Most(max_seconds, max_txids, max_bytes))
        except KeyboardInterrupt:
            return
    for words in late:
        console.note(words)
    if late:
        raise typer.Exit(1)


class Most(NamedTuple):
    """What a tenant may be behind; None for whatever it is."""

    seconds: float | None = None
    txids: int | None = None
    bytes: int | None = None


def _look(client: Client, watch: bool, as_json: bool, most: Most) -> list[str]:
    """Show the lag, once or until a threshold is passed; who has passed it."""
    rows = client.lag()
    if as_json or not watch:
        while True:
            if as_json:
                console.print_json(rows)
            else:
                console.show(_lag_table(rows))
            if (late := over(rows, *most)) or not watch:
                return late
            time.sleep(1.0)
            rows = client.lag()
    from rich.live import Live

    with Live(_lag_table(rows), console=console.out, auto_refresh=False) as live:
        while not (late := over(rows, *most)):
            time.sleep(1.0)
            rows = client.lag()
            live.update(_lag_table(rows), refresh=True)
    return late


def over(
    rows: Iterable[LagView], seconds: float | None, txids: int | None, size: int | None = None
) -> list[str]:
    """Every tenant that is further behind than allowed, in words. A lag that is not known is not
    taken for a small one."""
    found = []
    for row in rows:
        for value, most, unit in (
            (row.lag_seconds, seconds, "s"),
            (row.lag_txids, txids, "txids"),
            (row.lag_bytes, size, "bytes"),
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
    made = table(*columns, "bytes", "alerts", right=(*columns[2:], "bytes"))
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
            "?" if one.lag_bytes is None else f"{one.lag_bytes:,}",
            "; ".join(alert.text for alert in one.alerts),
        )
    return made


def _look_at_bucket(
    name: str,
    address: str | None,
    s3: str | None,
    bucket: str,
    region: str,
    txids: int | None,
    as_json: bool,
) -> None:
    """Show what the bucket holds. Exit code 1 where something is not as it must be, or is further
    behind than allowed."""
    from backup.store import S3Store
    from fleet.bucket_lag import look

    store = S3Store(connection.bucket_of(name, s3, bucket, region))
    told: list[LagView] = []
    if s3 is None or address is not None:
        try:
            # Before the bucket is looked at: what is there only grows.
            with connection.connect(name, address) as client:
                told = client.lag()
        except Problem as problem:
            console.note(f"the coordinator is not asked: {problem.message}")
    with console.err.status("looking at the bucket") as status:
        rows = look(store, told, progress=lambda tenant: status.update(f"looking at {tenant}"))
    if as_json:
        console.print_json(rows)
    else:
        console.show(_bucket_table(rows))
    late = [f"{row.tenant}: {row.finding}" for row in rows if row.finding]
    if txids is not None:
        late += [
            f"{row.tenant} is {row.behind_txids} txids behind, more than {txids}"
            for row in rows
            if row.behind_txids is not None and row.behind_txids > txids
        ]
    for words in late:
        console.note(words)
    if late:
        raise typer.Exit(1)


def _bucket_table(rows: list[BucketLagView]) -> Table:
    columns = ("epoch", "in the bucket", "uploaded", "proven", "log", "behind", "files", "bytes")
    made = table("tenant", "state", *columns, "finding", right=columns)
    for one in rows:
        age = "" if one.age_seconds is None else f"{console.age(one.age_seconds)} ago"
        made.add_row(
            one.tenant,
            one.state,
            str(one.epoch),
            str(one.txid),
            age,
            position(one.proven_txid),
            position(one.said_txid),
            position(one.behind_txids),
            f"{one.files:,}",
            f"{one.bytes:,}",
            one.finding,
        )
    return made
