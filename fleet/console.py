"""Where the commands write: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from fleet.problem import Problem

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import RenderableType
    from rich.progress import Progress

out = Console(highlight=False)
"""Results for people."""

err = Console(stderr=True, highlight=False)
"""Progress and errors."""


def print_json(value: BaseModel | Mapping[str, Any] | Sequence[BaseModel]) -> None:
    """One JSON document on stdout, as it is: no colours, no wrapping."""
    if isinstance(value, Mapping):
        text = json.dumps(value, indent=2)
    elif isinstance(value, Sequence):
        items = [item.model_dump(mode="json") for item in value]
        text = json.dumps({"items": items}, indent=2)
    else:
        text = value.model_dump_json(indent=2)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def show(value: RenderableType) -> None:
    out.print(value)


def say(text: str) -> None:
    """A line for people that is part of the result."""
    out.print(text, markup=False, soft_wrap=True)


def note(text: str) -> None:
    """A line of progress."""
    err.print(text, markup=False)


def complain(problem: Problem) -> None:
    """The error and what to do next, in two lines at most."""
    err.print(f"[bold red]error:[/] {_plain(problem.message)}", soft_wrap=True)
    if problem.hint:
        err.print(f"[bold]next:[/]  {_plain(problem.hint)}", soft_wrap=True)


def _plain(text: str) -> str:
    return text.replace("[", "\\[")


def transfers() -> Progress:
    """Bars for what is fetched or read, by bytes; they are gone when it is done."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    return Progress(*columns, console=err, transient=True)


def age(seconds: float | None) -> str:
    """A short duration for a table; empty when it is unknown."""
    if seconds is None:
        return "?"
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"
