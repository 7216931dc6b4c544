"""The table and the file that a run leaves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks.aims import Aim
from tests.benchmarks.contest import Result


@dataclass(slots=True)
class Report:
    """Everything that was measured in one run."""

    conditions: dict[str, Any]
    contests: list[Result] = field(default_factory=list)
    alone: dict[str, Any] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    """What did not take part, and why."""

    def write(self, path: Path, aims: Sequence[Aim]) -> None:
        """As JSON."""
        body = {
            "conditions": self.conditions,
            "aims": [aim.as_json() for aim in aims],
            "contests": [
                {
                    "shape": contest.shape,
                    "steps_per_second": {
                        name: rate.as_json()
                        for name in contest.rates
                        if (rate := contest.rate(name)) is not None
                    },
                    "rounds": contest.rates,
                }
                for contest in self.contests
            ],
            "alone": self.alone,
            "missing": self.missing,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(body, indent=2) + "\n")

    def show(self, console: Console, aims: Sequence[Aim], floors: dict[str, str]) -> None:
        """As tables; `floors` says which entrant each one is compared with."""
        for contest in self.contests:
            table = Table(title=f"{contest.shape}: median (range) over the rounds")
            for heading in ("", "steps/s", "times the floor", "rounds"):
                table.add_column(heading, justify="left" if not heading else "right")
            for name in contest.rates:
                rate, ratio = contest.rate(name), contest.ratio(name, floors.get(name, name))
                table.add_row(name, str(rate), str(ratio), str(rate.rounds if rate else 0))
            console.print(table)
        for what, why in self.missing.items():
            console.print(f"not measured: {what}: {why}", highlight=False)
        table = Table(title="aims")
        for heading in ("", "aim", "measured", "met", "note"):
            table.add_column(heading)
        for aim in aims:
            unmeasured = aim.measured is None
            met = {True: "yes", False: "NO", None: "not measured" if unmeasured else "-"}[aim.met]
            measured = "" if aim.measured is None else f"{aim.measured:,.4g}"
            table.add_row(aim.name, aim.aim, measured, met, aim.note)
        console.print(table)
