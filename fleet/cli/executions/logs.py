"""`litefleet exec logs`."""

from __future__ import annotations

import json
import sys
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet import DEFAULT_NAME, console
from fleet.cli.executions.target import Target, Tenant, Url, complete_id
from fleet.cli.options import Address, Json, Name

if TYPE_CHECKING:
    from rich.text import Text

app = typer.Typer()
#: Seconds between two looks at what is new.
LOOK_EVERY = 0.5
#: What a line shows in words of its own.
_SAID = frozenset(
    {
        *("time", "level", "logger", "message", "exception", "tenant", "epoch"),
        *("execution", "workflow", "step", "occurrence", "attempt"),
    }
)
_STYLES = {"debug": "dim", "warning": "yellow", "error": "red", "critical": "bold red"}


class Level(StrEnum):
    """How much a line matters."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


@app.command()
def logs(
    id: Annotated[
        str | None,
        typer.Argument(
            help="Only of this execution; without one, all.", autocompletion=complete_id
        ),
    ] = None,
    level: Annotated[Level | None, typer.Option(help="Only from this level on.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=5000, help="The last so many lines.")] = 200,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with what is logged from now on.")
    ] = False,
    tenant: Tenant = None,
    url: Url = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Show what the engine and the code have logged; with --json one object a line."""
    least = None if level is None else level.value
    with Target.of(tenant, url, name, address, None).open() as executions:
        answer = executions.lines(id, least, limit)
        _show(answer["items"], as_json)
        while follow:
            time.sleep(LOOK_EVERY)
            answer = executions.lines(id, least, 5000, answer["next"])
            _show(answer["items"], as_json)


def _show(lines: list[dict[str, Any]], as_json: bool) -> None:
    for line in lines:
        if as_json:
            sys.stdout.write(json.dumps(line) + "\n")
        else:
            console.out.print(_words(line), soft_wrap=True)
    sys.stdout.flush()


def _words(line: dict[str, Any]) -> Text:
    from rich.text import Text

    level = str(line.get("level", ""))
    text = Text(_clock(line.get("time")), "dim")
    text.append(f"{level:<9}", _STYLES.get(level, "green"))
    if line.get("execution"):
        text.append(f"{line['execution']} ", "cyan")
    if line.get("step"):
        number = f"#{line['occurrence']}" if line.get("occurrence", 1) > 1 else ""
        tries = f" attempt {line['attempt']}" if line.get("attempt", 1) > 1 else ""
        text.append(f"{line['step']}{number}{tries} ", "dim")
    text.append(str(line["message"]), _STYLES.get(level, ""))
    if more := {key: value for key, value in line.items() if key not in _SAID}:
        text.append(f"  {json.dumps(more, ensure_ascii=False)}", "dim")
    if line.get("exception"):
        text.append(f"\n{line['exception']}", "dim")
    return text


def _clock(at: object) -> str:
    from datetime import datetime

    if not isinstance(at, str):
        return f"{'':13}"
    return datetime.fromisoformat(at).astimezone().strftime("%H:%M:%S.%f")[:12] + " "
