"""Measures backup and restore with the real Litestream and an embedded store.

`--short` runs every measurement at a small size: its figures say nothing, except that the
measurements run. `--only NAME` runs one of them.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from backup.litestream.pace import Pace
from fleet.seaweed import EmbeddedStore
from tests.benchmarks import idle
from tests.benchmarks.backup import proving, restoring
from tests.benchmarks.backup.goals import judge
from tests.benchmarks.backup.restoring import MB
from tests.benchmarks.environment import conditions
from tests.benchmarks.fleet import idling
from tests.benchmarks.fleet.place import place
from tests.benchmarks.report import Report


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured. `restores`: rounds, by the bytes of the database; times in seconds."""

    pairs: int
    proofs: int
    restores: dict[int, int]
    tenants: int
    settling: float
    looking: float
    asking: float


FULL_RUN = Sizes(500, 50, {MB: 15, 50 * MB: 7, 1000 * MB: 3}, 5, 30, 60, 1200)
SHORT_RUN = Sizes(10, 2, {MB: 2}, 2, 1, 2, 2)

Measured = dict[str, dict[str, Any]]


async def _proving(sizes: Sizes, folder: Path) -> Measured:
    with EmbeddedStore(folder / "store") as store:
        figures = await proving.measure(
            store.settings("bench"), folder, pairs=sizes.pairs, writers=32, each=sizes.proofs
        )
    return {"proving": figures}


async def _restoring(sizes: Sizes, folder: Path) -> Measured:
    found: Measured = {}
    with EmbeddedStore(folder / "store") as store:
        for size, rounds in sizes.restores.items():
            place = folder / str(size)
            place.mkdir()
            found[f"restoring {size // MB} MB"] = await restoring.measure(
                store.settings("bench"), place, size=size, rounds=rounds
            )
    return found


async def _idling(sizes: Sizes, folder: Path) -> Measured:
    names = [f"t{number}" for number in range(sizes.tenants)]
    async with place(1) as here:
        await here.create(names)
        await here.serving(names)
        for name in names:
            await here.run(name, "one")
        looked = await idling.measure(here, names, "host-1", sizes.settling, sizes.looking)
    return {"idling": looked}


async def _asking(sizes: Sizes, folder: Path) -> Measured:
    with EmbeddedStore(folder / "store") as store:
        found = await idle.measure(
            Pace.IDLE,
            store.settings("idle"),
            folder / "idle",
            sizes.asking,
            settling=min(idle.SETTLING, sizes.asking),
        )
    return {"asking": found | {"seconds": sizes.asking}}


MEASUREMENTS: dict[str, Callable[[Sizes, Path], Awaitable[Measured]]] = {
    "proving": _proving,
    "restoring": _restoring,
    "idling": _idling,
    "asking": _asking,
}


async def run(sizes: Sizes, chosen: list[str], console: Console) -> Report:
    """The chosen measurements, one after another, each in a folder of its own."""
    report = Report(conditions() | {"store": "embedded SeaweedFS on the same machine"})
    for name in chosen:
        console.print(f"{name} ...", style="dim")
        try:
            with tempfile.TemporaryDirectory(prefix="litefleet-bench-") as folder:
                (Path(folder) / "store").mkdir()
                report.alone.update(await MEASUREMENTS[name](sizes, Path(folder)))
        except Exception as error:
            traceback.print_exc()
            report.missing[name] = f"{type(error).__name__}: {error}"
    return report


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.backup", description=__doc__)
    parser.add_argument("--short", action="store_true", help="only see that everything runs")
    parser.add_argument("--only", action="append", choices=list(MEASUREMENTS))
    parser.add_argument("--build", type=Path, default=Path("build/bench"))
    given = parser.parse_args()
    sizes = SHORT_RUN if given.short else FULL_RUN
    console = Console(width=150)
    report = asyncio.run(run(sizes, given.only or list(MEASUREMENTS), console))
    aims = judge(report.alone, tuple(sizes.restores))
    file = given.build / ("backup-short.json" if given.short else "backup.json")
    report.write(file, aims)
    report.show(console, aims, {})
    console.print(f"written to {file}", highlight=False)
    # A missed aim is a result; a measurement that did not run is a failure.
    return 1 if report.missing else 0


if __name__ == "__main__":
    sys.exit(main())
