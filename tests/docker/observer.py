"""What somebody outside of the fleet can tell from what arrived, and from what was promised."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any


@dataclass(frozen=True)
class Promise:
    """An execution whose start was acknowledged as durable: it has so many steps."""

    tenant: str
    execution: str
    steps: int


def contradictions(
    promises: Iterable[Promise], ledger: Iterable[Mapping[str, Any]], epochs: Mapping[str, int]
) -> list[str]:
    """All that does not fit together.

    Args:
        promises: executions that have ended by now.
        ledger: every arrival at the receiver, in order.
        epochs: how many epochs each tenant has had. It has that many homes at most, one after
            another: an arrival from an earlier one after one from its successor is a zombie's.
    """
    found = []
    arrivals = list(ledger)
    for promise in promises:
        mine = [one for one in arrivals if one["execution"] == promise.execution]
        steps: dict[str, set[str]] = {}
        for one in mine:
            steps.setdefault(one["step"], set()).add(one["key"])
        for number in range(promise.steps):
            keys = steps.get(f"effect-{number}", set())
            if len(keys) != 1:
                found.append(f"{promise.execution}: step {number} came under {len(keys)} keys")
        firsts = list(dict.fromkeys(one["body"]["number"] for one in mine))
        if firsts != sorted(firsts):
            found.append(f"{promise.execution}: its steps came out of order")
    for tenant, count in epochs.items():
        homes = [
            host
            for host, _ in groupby(
                one["body"]["host"] for one in arrivals if one["tenant"] == tenant
            )
        ]
        if len(homes) > count:
            found.append(f"{tenant}: {count} epochs, but its effects came from {homes}")
    return found
