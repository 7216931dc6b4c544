"""Random programs: what one workflow interprets, and what is done to it from outside.

A node is a list, `[what, *arguments]`, so that a program is its own JSON and its own source. Its
place in the program is its path, and everything that tells one node from another comes from that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

Node = list[Any]

#: Milliseconds between two moments of a program whose moments can meet.
TICK = 10


@dataclass(frozen=True)
class Program:
    """What runs, and what comes from outside: `[moment, what, *arguments]`.

    `apart` has no two things happen at the same time, so that there is only one way in which it
    can end. Otherwise everything happens at few moments, and anything may win a race.
    """

    body: Node
    outside: list[Node] = field(default_factory=list)
    apart: bool = False
    workflow: str = "program"


def moment(apart: bool, path: str, ticks: int) -> float:
    """Seconds of a wait at this place of a program."""
    if not apart:
        return ticks * TICK / 1000
    # A sum of some of these is never the sum of others, for all practical purposes.
    return ((ticks << 20) + 1 + crc32(path.encode()) % (1 << 20)) / 1000
