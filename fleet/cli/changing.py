"""`litefleet tenant set`: what a tenant may use, and when it is put to sleep."""

from __future__ import annotations

from typing import Annotated

import typer

from fleet import DEFAULT_NAME, console
from fleet.cli import connection
from fleet.cli.options import Address, Json, Name
from fleet.problem import Problem

DEFAULT = "default"
"""The word for what the fleet's settings say."""


def tenant_set(
    tenant: Annotated[str, typer.Argument(help="Its name.")],
    rate: Annotated[
        str | None, typer.Option(help="Requests a second over time; 0 for no limit.")
    ] = None,
    burst: Annotated[
        str | None, typer.Option(help="Requests that may come at once; from 1 on.")
    ] = None,
    concurrency: Annotated[
        str | None, typer.Option(help="Requests under way at once; 0 for no limit.")
    ] = None,
    body_bytes: Annotated[
        str | None, typer.Option(help="Bytes of a request's body; 0 for no limit.")
    ] = None,
    sleep_after: Annotated[
        str | None,
        typer.Option(help="Seconds with nothing to do after which it sleeps; 0 for never."),
    ] = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Change what a tenant's callers may use, or when it is put to sleep. It is not restarted.

    The value `default` is what the fleet's settings say. What is not named stays as it is.
    """
    limits = {"rate": rate, "burst": burst, "concurrency": concurrency, "body_bytes": body_bytes}
    named = {key: _number(key, text) for key, text in limits.items() if text is not None}
    if not named and sleep_after is None:
        raise Problem("nothing_to_set", "Nothing was named that shall change.", "See --help.")
    with connection.connect(name, address) as client:
        change: dict[str, object] = {}
        if named:
            before = client.tenant(tenant).limits
            kept = (before.model_dump() if before is not None else {}) | named
            left = {key: value for key, value in kept.items() if value is not None}
            change["limits"] = left or None
        if sleep_after is not None:
            change["sleep_after"] = _number("sleep_after", sleep_after)
        view = client.change_tenant(tenant, change)
    if as_json:
        console.print_json(view)
    else:
        words = [*named, *(["sleep_after"] if sleep_after is not None else [])]
        console.note(f"{tenant}: {', '.join(words)} changed")


def _number(key: str, text: str) -> float | int | None:
    if text == DEFAULT:
        return None
    try:
        return float(text) if key in ("rate", "sleep_after") else int(text)
    except ValueError as error:
        option = f"--{key.replace('_', '-')}"
        raise Problem(
            "bad_option", f"{option} is a number or `{DEFAULT}`, not {text!r}.", "See --help."
        ) from error
