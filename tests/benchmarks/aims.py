"""What the engine is to reach, and whether a run did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Aim:
    """One aim. `measured` is None, and `met` too, when it was not measured; `met` alone when
    there is no limit to hold it against. `note` says why, or under which conditions it was."""

    name: str
    aim: str
    measured: float | None
    met: bool | None
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """As the report has it."""
        body = {"name": self.name, "aim": self.aim, "measured": self.measured, "met": self.met}
        return {**body, "note": self.note} if self.note else body


def at_least(
    name: str, least: float, measured: float | None, unit: str = "", note: str = ""
) -> Aim:
    """An aim that more is better for."""
    met = None if measured is None else measured >= least
    return Aim(name, f"at least {least:,g}{unit}", measured, met, note)


def at_most(name: str, most: float, measured: float | None, unit: str = "", note: str = "") -> Aim:
    """An aim that less is better for."""
    met = None if measured is None else measured <= most
    return Aim(name, f"at most {most:,g}{unit}", measured, met, note)


def wanted(name: str, aim: str, measured: bool | None, note: str = "") -> Aim:
    """An aim that is reached or not: measured is 1 or 0."""
    return Aim(name, aim, None if measured is None else float(measured), measured, note)
