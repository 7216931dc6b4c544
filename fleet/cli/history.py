"""`litefleet history`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from fleet import DEFAULT_NAME, console
from fleet.cli import connection
from fleet.cli.options import Address, Json, Name
from fleet.cli.tables import dated, table
from fleet.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from fleet.client import Client
    from fleet.history_views import OperationView

LOOK_EVERY = 1.0
"""Seconds between two looks for what is new."""


def history(
    tenant: Annotated[str | None, typer.Argument(help="Only what was done to this tenant.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="Only operations of this kind: failover, drill, ….")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Only what ended since then: 2h-ago, 2026-01-31T12:00:00Z."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The newest so many.")] = 50,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with what is done from now on, until Ctrl-C.")
    ] = False,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Show what the fleet did: who wanted it, why, how long each step took, what came of it."""
    began = None if since is None else _moment(since)
    with connection.connect(name, address) as client:
        found = client.history(tenant, kind=kind, since=began, limit=limit, newest=True)
        if not follow:
            _show(found, as_json)
            return
        try:
            _follow(client, found, tenant, kind, began, as_json)
        except KeyboardInterrupt:
            return


def _follow(
    client: Client,
    found: list[OperationView],
    tenant: str | None,
    kind: str | None,
    since: float | None,
    as_json: bool,
) -> None:
    last = 0
    while True:
        for one in found:
            # One document a line, for programs that read along.
            console.say(one.model_dump_json() if as_json else line(one))
            last = one.n
        if not found:
            time.sleep(LOOK_EVERY)
        found = client.history(tenant, kind=kind, since=since, after=last)


def _moment(text: str) -> float:
    from fleet.moments import parse_moment
    from restore.moment import AtTime

    moment = parse_moment(text, time.time())
    if not isinstance(moment, AtTime):
        raise Problem("bad_moment", f"{text!r} is no time.", "Use 2h-ago, or 2026-01-31T12:00:00Z.")
    return moment.at


def _show(found: list[OperationView], as_json: bool) -> None:
    if as_json:
        console.print_json(found)
    else:
        console.show(operations(found))


def operations(found: Iterable[OperationView]) -> Table:
    """What was done, one operation a row."""
    made = table("ended", "what", "tenant", "from → to", "epoch", "took", "by", "outcome")
    for one in found:
        made.add_row(
            dated(one.ended_at, "seconds"),
            one.kind,
            one.tenant or "",
            hosts(one),
            epochs(one),
            console.age(one.seconds),
            one.by + (f": {one.why}" if one.why else ""),
            one.outcome + (f": {one.error}" if one.error else ""),
        )
    return made


def line(one: OperationView) -> str:
    """An operation in a line, with its steps."""
    steps = ", ".join(f"{step.name} {step.seconds:.2f} s" for step in one.steps)
    words = (
        dated(one.ended_at, "seconds"),
        one.kind,
        one.tenant or "",
        hosts(one),
        epochs(one),
        f"[{steps}]" if steps else "",
        f"by {one.by}" + (f" ({one.why})" if one.why else ""),
        one.outcome + (f": {one.error}" if one.error else ""),
    )
    return "  ".join(word for word in words if word)


def hosts(one: OperationView) -> str:
    """Where from and where to."""
    known = (one.from_host, one.to_host)
    if None in known or one.from_host == one.to_host:
        return one.to_host or one.from_host or ""
    return f"{one.from_host} → {one.to_host}"


def epochs(one: OperationView) -> str:
    """The epochs before and after."""
    if one.epoch_before is None or one.epoch_after is None:
        known = one.epoch_after if one.epoch_after is not None else one.epoch_before
        return "" if known is None else str(known)
    return f"{one.epoch_before} → {one.epoch_after}"
