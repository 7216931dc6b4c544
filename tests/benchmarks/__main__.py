"""Measures the engine beside the floor and the competitors: one run, rounds in turn.

`--short` runs every measurement of ours at a small size, without competitors: its figures say
nothing, except that the measurements run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.benchmarks.aims import Aim
from tests.benchmarks.contest import Entrant, hold
from tests.benchmarks.environment import conditions
from tests.benchmarks.goals import judge
from tests.benchmarks.participant import Participant, ParticipantLost
from tests.benchmarks.report import Report

FLOORS = {
    "litefleet FULL": "floor FULL",
    "litefleet NORMAL": "floor NORMAL",
    "floor FULL, grouped by 64": "floor FULL",
    "DBOS defaults": "floor FULL",
    "DBOS WAL FULL": "floor FULL",
    "Temporal": "floor FULL",
}


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    rounds: int
    competitors_every: int
    sequential: int
    at_once: int
    alone: dict[str, dict[str, Any]]


FULL_RUN = Sizes(
    rounds=9,
    competitors_every=3,
    sequential=150,
    at_once=1000,
    alone={
        "size": {"workflows": 1000},
        "latency 1": {"workflows": 1, "batches": 200},
        "latency 32": {"workflows": 32, "batches": 30},
        "latency 1000": {"workflows": 1000, "batches": 3},
        "barriers": {"writers": 32, "steps": 100, "latency": 0.03},
        "inflight": {"executions": 7500, "seconds": 30},
        "opening": {"executions": 10_000, "steps": 5},
        "ageing": {"finished": 1_000_000, "workflows": 500, "rounds": 5},
    },
)
SHORT_RUN = Sizes(
    rounds=2,
    competitors_every=1,
    sequential=20,
    at_once=100,
    alone={
        "size": {"workflows": 50},
        "latency 1": {"workflows": 1, "batches": 5},
        "latency 32": {"workflows": 32, "batches": 1},
        "latency 1000": {"workflows": 100, "batches": 1},
        "barriers": {"writers": 8, "steps": 5, "latency": 0.03},
        "inflight": {"executions": 100, "seconds": 11},
        "opening": {"executions": 200, "steps": 5},
        "ageing": {"finished": 1000, "workflows": 20, "rounds": 1},
    },
)


@contextmanager
def participants(
    place: Path, environments: Path | None, missing: dict[str, str]
) -> Iterator[dict[str, Participant]]:
    """Everyone who can take part, ready; `missing` is told about the others."""
    python = Path(sys.executable)
    found = {
        "floor": Participant(python, "with_sqlite", place),
        "litefleet": Participant(python, "with_litefleet", place),
    }
    wanted = {
        "DBOS defaults": ("dbos", "with_dbos", "defaults"),
        "DBOS WAL FULL": ("dbos", "with_dbos", "WAL FULL"),
        "Temporal": ("temporal", "with_temporal"),
    }
    for name, (environment, module, *options) in wanted.items() if environments else ():
        theirs = Path(str(environments)) / environment / "bin" / "python"
        if theirs.exists():
            found[name] = Participant(theirs, module, place, *options)
        else:
            missing[name] = f"its environment could not be made ({theirs} is not there)"
    try:
        for name, participant in list(found.items()):
            try:
                participant.ready()
            except ParticipantLost as error:
                missing[name] = str(error)
                found.pop(name).close()
        yield found
    finally:
        for participant in found.values():
            participant.close()


def entrants(found: dict[str, Participant], sizes: Sizes, shape: str) -> list[Entrant]:
    """Who is in a contest, in the order of the first round."""
    at_once = shape == "at once"
    ours = sizes.at_once if at_once else sizes.sequential
    every = sizes.competitors_every
    full, normal = {"synchronous": "FULL"}, {"synchronous": "NORMAL"}
    floor, litefleet = found["floor"], found["litefleet"]
    listed = [
        Entrant("floor FULL", floor, min(ours, 300), {**full, "group": 1}),
        Entrant("litefleet FULL", litefleet, ours, full),
        Entrant("litefleet NORMAL", litefleet, ours, normal),
        Entrant("floor NORMAL", floor, ours, {**normal, "group": 1}),
    ]
    if at_once:
        listed.append(Entrant("floor FULL, grouped by 64", floor, ours, {**full, "group": 64}))
    theirs = {"DBOS defaults": (20, 1000), "DBOS WAL FULL": (20, 1000), "Temporal": (5, 100)}
    for name, counts in theirs.items():
        if name in found:
            # On a slow disk one round of theirs takes minutes.
            listed.append(Entrant(name, found[name], counts[at_once], {}, every, patience=100))
    return listed


def run(sizes: Sizes, environments: Path | None, place: Path, console: Console) -> Report:
    """Everything, one after another."""
    report = Report(conditions())
    with participants(place, environments, report.missing) as found:
        for shape in ("one after another", "at once"):
            console.print(f"{shape} ...", style="dim")
            result = hold(shape, entrants(found, sizes, shape), sizes.rounds)
            report.contests.append(result)
            report.missing.update(result.lost)
    for name, options in sizes.alone.items():
        console.print(f"{name} ...", style="dim")
        participant = Participant(Path(sys.executable), "alone", place)
        try:
            participant.ready()
            request = {"what": name.split()[0], "options": options}
            report.alone[name] = {**options, **participant.ask(request, within=600)}
        except ParticipantLost as error:
            report.missing[name] = str(error)
        finally:
            participant.close()
    return report


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--short", action="store_true", help="only see that everything runs")
    parser.add_argument("--build", type=Path, default=Path("build/bench"))
    given = parser.parse_args()
    given.build.mkdir(parents=True, exist_ok=True)
    sizes = SHORT_RUN if given.short else FULL_RUN
    console = Console(width=150)
    # On the disk of the checkout: a file system in memory has no sync to measure.
    with tempfile.TemporaryDirectory(prefix="run-", dir=given.build) as place:
        environments = None if given.short else given.build
        report = run(sizes, environments, Path(place), console)
    aims: list[Aim] = judge(report)
    file = given.build / ("engine-short.json" if given.short else "engine.json")
    report.write(file, aims)
    report.show(console, aims, FLOORS)
    console.print(f"written to {file}", highlight=False)
    expected = set(sizes.alone) | {"floor", "litefleet"}
    # A missed aim is a result; a measurement of ours that did not run is a failure.
    return 1 if expected & report.missing.keys() else 0


if __name__ == "__main__":
    sys.exit(main())
