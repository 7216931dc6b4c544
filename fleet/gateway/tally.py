"""What a gateway has done, counted for each tenant, and as metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from fleet.gateway.limits import Room

GATEWAY_METRICS: Final = (
    (
        "litefleet_gateway_requests_total",
        "counter",
        "requests for a tenant that were answered",
        ("tenant", "outcome"),
    ),
    (
        "litefleet_gateway_resent_total",
        "counter",
        "times that a request was sent again",
        ("tenant",),
    ),
    ("litefleet_gateway_under_way", "gauge", "requests that are let in, held or not", ("tenant",)),
    ("litefleet_gateway_held", "gauge", "requests that are held", ("tenant",)),
    ("litefleet_gateway_held_bytes", "gauge", "what they take in memory", ("tenant",)),
    ("litefleet_gateway_holds_total", "counter", "requests that were held", ("tenant",)),
    (
        "litefleet_gateway_hold_seconds_total",
        "counter",
        "for how long, all together",
        ("tenant",),
    ),
)
"""Families: name, kind, meaning, labels."""

Sample = tuple[str, tuple[str, ...], float]


@dataclass(slots=True)
class Tally:
    """What was done for one tenant since the process began. ``outcomes`` counts answers:
    ``passed`` is one of the node's, every other one the gateway's own."""

    outcomes: Counter[str] = field(default_factory=Counter)
    resent: int = 0
    holds: int = 0
    hold_seconds: float = 0.0


def samples(tallies: Mapping[str, tuple[Tally, Room]]) -> Iterator[Sample]:
    """The samples of all families, by tenant."""
    for tenant, (tally, room) in tallies.items():
        for outcome, count in tally.outcomes.items():
            yield "litefleet_gateway_requests_total", (tenant, outcome), count
        yield "litefleet_gateway_resent_total", (tenant,), tally.resent
        yield "litefleet_gateway_under_way", (tenant,), room.under_way
        yield "litefleet_gateway_held", (tenant,), room.held
        yield "litefleet_gateway_held_bytes", (tenant,), room.held_bytes
        yield "litefleet_gateway_holds_total", (tenant,), tally.holds
        yield "litefleet_gateway_hold_seconds_total", (tenant,), tally.hold_seconds
