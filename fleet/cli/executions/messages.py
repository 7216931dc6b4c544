"""`litefleet exec signal`, `query` and `update`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fleet import DEFAULT_NAME, console
from fleet.cli.executions.target import (
    AckOption,
    Id,
    Input,
    Target,
    Tenant,
    Url,
    Values,
    arguments,
    loose_value,
    shown,
    words,
)
from fleet.cli.options import Address, Json, Name

if TYPE_CHECKING:
    from node.api_models import Queried, Updated

app = typer.Typer()
Key = Annotated[
    str | None,
    typer.Option(help="What is sent twice with one key arrives once. By default one is made up."),
]


@app.command()
def signal(
    id: Id,
    signal: Annotated[str, typer.Argument(help="Its name.")],
    value: Annotated[
        str | None, typer.Argument(metavar="[VALUE]", help="JSON, or else text.")
    ] = None,
    key: Key = None,
    tenant: Tenant = None,
    url: Url = None,
    ack: AckOption = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Send an execution a signal."""
    given = None if value is None else loose_value(value)
    with Target.of(tenant, url, name, address, ack).open() as client:
        answer = client.handle(id).signal(signal, given, key=key)
    if as_json:
        console.print_json(shown(answer))
    else:
        console.note(f"{signal} {'arrived' if answer.arrived else 'had arrived before'}")


@app.command()
def query(
    id: Id,
    query: Annotated[str, typer.Argument(help="Its name.")],
    values: Values = None,
    input: Input = None,
    tenant: Tenant = None,
    url: Url = None,
    ack: AckOption = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Ask an execution, open or closed, something that changes nothing."""
    from node.client import calls
    from node.client.requests import query_request

    given = arguments(values, input)
    with Target.of(tenant, url, name, address, ack).open() as client:
        _give(client.send(calls.query(id, query, query_request(given, client.ack))), as_json)


@app.command()
def update(
    id: Id,
    update: Annotated[str, typer.Argument(help="Its name.")],
    values: Values = None,
    input: Input = None,
    key: Key = None,
    tenant: Tenant = None,
    url: Url = None,
    ack: AckOption = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Have an execution change something, and give what its handler answers."""
    from node.client import calls
    from node.client.requests import update_request

    given = arguments(values, input)
    with Target.of(tenant, url, name, address, ack).open() as client:
        request = update_request(given, key, client.ack)
        _give(client.send(calls.update(id, update, request)), as_json)


def _give(answer: Queried | Updated, as_json: bool) -> None:
    if as_json:
        console.print_json(shown(answer))
    else:
        console.say(words(answer.result, 1_000_000))
