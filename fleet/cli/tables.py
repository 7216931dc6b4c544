"""What the tables of the commands have in common."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    from rich.table import Table

    made = Table()
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left")
    return made


def position(sequence: int | None) -> str:
    return "?" if sequence is None else str(sequence)


def dated(at: float | None, timespec: str = "milliseconds") -> str:
    """Unix seconds as a date and a time in UTC; nothing for None."""
    if at is None:
        return ""
    return datetime.fromtimestamp(at, UTC).isoformat(sep=" ", timespec=timespec)


def details(rows: Mapping[str, str]) -> Table:
    """One thing: a name and a value a line."""
    from rich.table import Table

    made = Table.grid(padding=(0, 2))
    made.add_column(style="bold")
    made.add_column()
    for key, value in rows.items():
        made.add_row(key, value)
    return made
