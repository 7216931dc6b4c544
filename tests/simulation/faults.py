"""What goes wrong in a seed, drawn before it runs."""

from __future__ import annotations

import random
from dataclasses import dataclass

FROM, UNTIL = 18.0, 55.0
"""Virtual seconds between which faults begin."""
HEALED = 75.0
"""Seconds at which all that can be healed is healed, and no new fault comes."""

HOST_FAULTS = (
    "kill",
    "freeze",
    "freeze",
    "cut from store",
    "cut from store",
    "cut from coordinators",
    "restart agent",
    "leave",
    "clock runs wild",
    "stumble",
    "caught renewing",
    "cut at release",
    "cut at restore",
    "cut at activate",
    "kill at restore, coordinator cut at fence",
    "kill when active",
    "freeze at claim",
    "freeze at activate",
    "freeze at sync",
    "freeze at owner read",
    "slow clock, freeze at sync",
)
FLEET_FAULTS = (
    "store fails at times",
    "store fails at times",
    "lists lie",
    "fetches fail",
    "store away",
    "restart coordinator",
    "freeze coordinator",
    "cut coordinator from store",
    "lose a file",
)


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One fault: when, what, of whom ("" for the fleet's), and for how many virtual seconds."""

    at: float
    kind: str
    whom: str
    lasting: float

    def __str__(self) -> str:
        return f"{self.at:7.2f} {self.kind} {self.whom} ({self.lasting:.1f} s)"


def draw(rng: random.Random, hosts: list[str], spared: str) -> list[Fault]:
    """Faults for one seed. ``spared`` is never killed, so that capacity lasts."""
    found = []
    for _ in range(rng.randint(2, 7)):
        at, lasting = rng.uniform(FROM, UNTIL), rng.choice((3.0, 8.0, 14.0, 20.0, 35.0))
        lasting *= rng.uniform(0.8, 1.2)
        if rng.random() < 0.7:
            whom, kind = rng.choice(hosts), rng.choice(HOST_FAULTS)
            if kind.startswith("kill") and whom == spared:
                kind = "freeze"
            found.append(Fault(at, kind, whom, lasting))
        else:
            found.append(Fault(at, rng.choice(FLEET_FAULTS), "", lasting))
    if len(hosts) >= 4 and rng.random() < 0.3:
        at = rng.uniform(FROM, UNTIL)
        found += [Fault(at, "kill", host, 0.0) for host in hosts if host != spared]
    return sorted(found)
