"""The live table and the timeline while the demo runs."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType

from rich import box
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fleet import console
from fleet.views import TenantView, TimelineEntry

SHOWN = 14
"""Lines of the timeline under the table."""
WIDE = 95
"""Columns of a terminal on which the durability is shown as well."""


@dataclass
class Board:
    """What is on display."""

    tenants: list[TenantView] = field(default_factory=list)
    lines: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=SHOWN))
    finished: int = 0
    planned: int = 0
    begun: float = field(default_factory=time.time)

    def render(self) -> RenderableType:
        parts: list[RenderableType] = []
        if self.tenants:
            parts.append(_table(self.tenants))
            parts.append(Text(f"{self.finished} of {self.planned} executions finished"))
        for at, text in self.lines:
            parts.append(Text(f"{at - self.begun:7.1f} s  {text}", style="dim"))
        return Group(*parts)


def _table(tenants: Sequence[TenantView]) -> Table:
    wide = console.err.width >= WIDE
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("tenant", *(["durability"] if wide else []), "host", "state"):
        table.add_column(name, no_wrap=True)
    for name in ("epoch", "running", "done", "committed", "replicated", "lag"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in tenants:
        table.add_row(
            one.name,
            *([one.durability] if wide else []),
            one.host or "",
            one.state,
            str(one.epoch),
            str(one.executions.running),
            str(one.executions.completed),
            _number(one.txid),
            _number(one.replicated_txid),
            console.age(one.lag_seconds),
            style=None if one.state == "active" else "yellow",
        )
    return table


def _number(value: int | None) -> str:
    return "?" if value is None else str(value)


class Display:
    """Shows the board on a terminal, or its lines one by one where there is none."""

    def __init__(self, live: bool) -> None:
        self.board = Board()
        self._seen = 0
        self._live = (
            Live(get_renderable=self.board.render, console=console.err, refresh_per_second=4)
            if live
            else None
        )

    def __enter__(self) -> Display:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str, at: float | None = None) -> None:
        """A line of the timeline; `at` is UNIX seconds, now by default."""
        moment = time.time() if at is None else at
        self.board.lines.append((moment, text))
        if self._live is None:
            console.note(f"{moment - self.board.begun:7.1f} s  {text}")

    def follow(self, entries: Sequence[TimelineEntry]) -> None:
        """Show what the coordinator did since the last call."""
        for entry in entries:
            if entry.n > self._seen:
                self._seen = entry.n
                self.say(entry.text, entry.at)

    @property
    def seen(self) -> int:
        """The number of the last timeline entry shown."""
        return self._seen
