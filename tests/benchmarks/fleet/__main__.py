"""Measures a whole fleet on this machine, with the real parts and an embedded store.

`--short` runs every measurement at a small size: its figures say nothing, except that the
measurements run. `--only NAME` runs one of them.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.benchmarks.environment import conditions
from tests.benchmarks.fleet import idling, passing, provisioning, recovering, waking
from tests.benchmarks.fleet.goals import judge
from tests.benchmarks.fleet.place import place
from tests.benchmarks.report import Report


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured. Times are in seconds."""

    together: int
    alone: int
    losses: int
    tenants: int
    settling: float
    looking: float
    pairs: int
    wakes: int


FULL_RUN = Sizes(
    together=50, alone=20, losses=10, tenants=100, settling=60, looking=60, pairs=2000, wakes=50
)
SHORT_RUN = Sizes(
    together=3, alone=2, losses=1, tenants=3, settling=1, looking=2, pairs=20, wakes=2
)

Measured = dict[str, dict[str, Any]]


async def _provisioning(sizes: Sizes) -> Measured:
    return {
        "provisioning": await provisioning.measure(
            hosts=3, together=sizes.together, alone=sizes.alone
        )
    }


async def _gateway(sizes: Sizes) -> Measured:
    return {"gateway": await passing.measure(pairs=sizes.pairs)}


async def _waking(sizes: Sizes) -> Measured:
    return {"waking": await waking.measure(wakes=sizes.wakes)}


async def _one(sizes: Sizes) -> Measured:
    return {"recovery of one": await recovering.one_by_one(rounds=sizes.losses)}


async def _many(sizes: Sizes) -> Measured:
    """One host with many tenants: left alone first, and lost then."""
    names = [f"t{number:03}" for number in range(sizes.tenants)]
    async with place(1) as here:
        await here.create(names)
        await here.serving(names)
        for name in names:
            await here.run(name, "one")
        idle = await idling.measure(here, names, "host-1", sizes.settling, sizes.looking)
        return {"idling": idle, "recovery of all": await recovering.all_of_a_host(here, names)}


MEASUREMENTS: dict[str, Callable[[Sizes], Awaitable[Measured]]] = {
    "provisioning": _provisioning,
    "gateway": _gateway,
    "waking": _waking,
    "one": _one,
    "many": _many,
}


async def run(sizes: Sizes, chosen: list[str], console: Console) -> Report:
    """The chosen measurements, one after another, each with a fleet of its own."""
    report = Report(conditions() | {"store": "embedded SeaweedFS on the same machine"})
    for name in chosen:
        console.print(f"{name} ...", style="dim")
        try:
            report.alone.update(await MEASUREMENTS[name](sizes))
        except Exception as error:
            traceback.print_exc()
            report.missing[name] = f"{type(error).__name__}: {error}"
    return report


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fleet", description=__doc__)
    parser.add_argument("--short", action="store_true", help="only see that everything runs")
    parser.add_argument("--only", action="append", choices=list(MEASUREMENTS))
    parser.add_argument("--tenants", type=int, help="of one host, instead of 100")
    parser.add_argument("--build", type=Path, default=Path("build/bench"))
    given = parser.parse_args()
    sizes = SHORT_RUN if given.short else FULL_RUN
    if given.tenants:
        sizes = replace(sizes, tenants=given.tenants)
    console = Console(width=150)
    report = asyncio.run(run(sizes, given.only or list(MEASUREMENTS), console))
    aims = judge(report.alone)
    file = given.build / ("fleet-short.json" if given.short else "fleet.json")
    report.write(file, aims)
    report.show(console, aims, {})
    console.print(f"written to {file}", highlight=False)
    # A missed aim is a result; a measurement that did not run is a failure.
    return 1 if report.missing else 0


if __name__ == "__main__":
    sys.exit(main())
