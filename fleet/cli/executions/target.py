"""Which engine the commands speak to, and what they take and show in common."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet import console
from fleet.problem import Problem

if TYPE_CHECKING:
    from fleet.client import Client
    from fleet.executions import Executions
    from fleet.schedules import Schedules

#: Characters of a value that a line of a table shows.
SHOWN = 80


class Ack(StrEnum):
    """What an answer waits for."""

    DURABLE = "durable"
    ASYNC = "async"


Tenant = Annotated[
    str | None,
    typer.Option("--tenant", envvar="LITEFLEET_TENANT", help="Whose executions, in a fleet."),
]
Url = Annotated[
    str | None,
    typer.Option("--url", envvar="LITEFLEET_URL", help="An engine's own address, such as dev's."),
]
AckOption = Annotated[
    Ack | None,
    typer.Option("--ack", help="durable: wait for the proof. By default with --tenant."),
]


def complete_id(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids of executions that begin so. Nothing where there is nobody to ask."""
    with suppress(Exception):
        given = ctx.params
        target = Target.of(
            given.get("tenant"), given.get("url"), given.get("name"), given.get("address"), None
        )
        with target.open() as executions:
            ids = [str(one["id"]) for one in executions.list(limit=500)]
        return [id for id in ids if id.startswith(incomplete)]
    return []


Id = Annotated[str, typer.Argument(help="The execution's id.", autocompletion=complete_id)]
Values = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]…", help="Arguments; a value is JSON, or else text."),
]
Input = Annotated[
    str | None,
    typer.Option(
        "--input", metavar="JSON", help="Arguments as an object; @FILE reads a file, - stdin."
    ),
]


@dataclass(frozen=True, slots=True)
class Target:
    """The engine that the options name."""

    tenant: str | None
    url: str | None
    name: str
    address: str | None
    ack: Ack

    @staticmethod
    def of(
        tenant: str | None,
        url: str | None,
        name: str | None,
        address: str | None,
        ack: Ack | None,
    ) -> Target:
        """Raises Problem unless it is either a tenant or an address."""
        from fleet import DEFAULT_NAME

        if (tenant is None) == (url is None):
            raise Problem(
                "no_target" if url is None else "two_targets",
                "Neither a tenant nor an address is given."
                if url is None
                else "Both a tenant and an address are given.",
                "Name a tenant of the fleet with --tenant, or an engine with --url, such as "
                "http://127.0.0.1:8787 for `litefleet dev`.",
            )
        # An engine by itself can prove nothing, and would refuse what is asked to be durable.
        default = Ack.DURABLE if url is None else Ack.ASYNC
        return Target(tenant, url, name or DEFAULT_NAME, address, ack or default)

    def open(self) -> Executions:
        """Its executions. Raises Problem when there is no such fleet."""
        from fleet.executions import Executions

        return Executions(*self._reach(), ack=self.ack.value, waiting=_told_to_wait)

    def schedules(self) -> Schedules:
        """Its schedules. Raises Problem when there is no such fleet."""
        from fleet.schedules import Schedules

        return Schedules(*self._reach(), ack=self.ack.value, waiting=_told_to_wait)

    def _reach(self) -> tuple[Client, str]:
        """Whom to ask, and what its paths begin with."""
        from urllib.parse import quote

        from fleet.cli import connection
        from fleet.client import Client

        if self.url is not None:
            return Client(self.url, os.environ.get("LITEFLEET_TOKEN")), ""
        client = connection.connect(self.name, self.address)
        return client, f"/{quote(self.tenant or '', safe='')}"


def _told_to_wait(why: str) -> None:
    console.note(f"not yet: {why}; asking again")


def arguments(values: Iterable[str] | None, given: str | None) -> dict[str, Any]:
    """The arguments of a workflow or a handler. Raises BadParameter."""
    found: dict[str, Any] = {}
    if given is not None:
        found = json_value(_text(given), "--input")
        if not isinstance(found, dict):
            raise typer.BadParameter("it must be a JSON object", param_hint="--input")
    for text in values or ():
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise typer.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="KEY=VALUE")
        found[key] = loose_value(value)
    return found


def _text(given: str) -> str:
    if given == "-":
        return sys.stdin.read()
    return Path(given[1:]).read_text(encoding="utf-8") if given.startswith("@") else given


def json_value(text: str, option: str) -> Any:
    """Raises BadParameter for what is no JSON."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"it is no JSON: {error}", param_hint=option) from None


def loose_value(text: str) -> Any:
    """JSON, or the text itself where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def words(value: Any, limit: int = SHOWN) -> str:
    """A value in one line, cut where it is long."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def clock(at: float | None) -> str:
    """A moment for a table, in local time."""
    from datetime import datetime

    if at is None:
        return ""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def error_words(error: Any) -> str:
    """An execution's error in one line."""
    if isinstance(error, dict) and "type" in error:
        return f"{error['type']}: {error.get('message', '')}".rstrip(": ")
    return words(error)
