"""`python -m tests.faults`: every fault, many times, with the books compared each time.

Prints a line a run and writes what was found as JSON. Exit code 1 if anything that was acknowledged
as durable is missing anywhere, or if the broken twin of a case passes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fleet.seaweed import EmbeddedStore
from tests.faults.cases import CASES, Case
from tests.faults.lab import Verdict, lab


async def run(case: Case, store: EmbeddedStore, folder: Path, seed: int, twin: bool) -> Any:
    """One run: its verdict, or that of its broken twin, whose bucket is robbed in the end."""
    near = store.settings(f"fault-{time.monotonic_ns()}")
    async with lab(near, folder) as made:
        await made.start()
        if not twin:
            return await case.does(made, random.Random(seed))
        await made.acknowledged(20)
        await made.rest()
        await made.lose_the_machine()
        await asyncio.sleep(0.5)
        made.forge()
        return await made.judge(floor=False)


def line(case: Case, seed: int, found: Verdict | str) -> str:
    if isinstance(found, str):
        return f"✗ {case.name} ({seed}): {found}"
    bad = bool(found.lost) or bool(found.refused and not case.may_refuse)
    told = f"{found.acknowledged} acknowledged, {len(found.lost)} lost, tail {found.lost_events}"
    refused = f", refused: {found.refused[:100]}" if found.refused else f", RTO {found.rto:.2f} s"
    return f"{'✗' if bad else '✓'} {case.name} ({seed}): {told}{refused}"


def summary(case: Case, verdicts: list[Verdict | str]) -> dict[str, Any]:
    """What is reported of a case."""
    done = [verdict for verdict in verdicts if isinstance(verdict, Verdict)]
    served = [verdict for verdict in done if not verdict.refused]
    failures = [verdict for verdict in verdicts if isinstance(verdict, str)]
    failures += [v.refused for v in done if v.refused and not case.may_refuse]
    return {
        "fault": case.name,
        "runs": len(verdicts),
        "acknowledged": sum(verdict.acknowledged for verdict in done),
        "lost": sum(len(verdict.lost) for verdict in done),
        "refused": len(done) - len(served),
        "failures": failures,
        "lost_events_most": max((verdict.lost_events for verdict in served), default=None),
        "rto_median": round(statistics.median([v.rto for v in served]), 2) if served else None,
        "rto_most": round(max(v.rto for v in served), 2) if served else None,
    }


async def main(arguments: argparse.Namespace) -> int:
    chosen = [case for case in CASES if arguments.only in case.name]
    if arguments.short:
        chosen = [case for case in chosen if not case.long]
    report: list[dict[str, Any]] = []
    with TemporaryDirectory(prefix="lf-", dir="/tmp") as name:
        folder = Path(name)
        (folder / "store").mkdir()
        with EmbeddedStore(folder / "store") as store:
            for number, case in enumerate(chosen):
                verdicts: list[Verdict | str] = []
                for turn in range(1 if case.long else arguments.runs):
                    seed = arguments.seed + turn
                    try:
                        found = await run(case, store, folder / f"{number}-{turn}", seed, False)
                    except (Exception, BaseExceptionGroup) as error:
                        found = f"{type(error).__name__}: {error}"
                    verdicts.append(found)
                    print(line(case, seed, found), flush=True)
                report.append(summary(case, verdicts))
            twin = await run(chosen[0], store, folder / "twin", arguments.seed, True)
            print(f"the broken twin, whose bucket was robbed: {len(twin.lost)} lost", flush=True)
    whole = {
        "conditions": {
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "python": platform.python_version(),
            "seed": arguments.seed,
        },
        "faults": report,
        "twin": {"acknowledged": twin.acknowledged, "lost": len(twin.lost)},
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(whole, indent=1) + "\n")
    bad = [one["fault"] for one in report if one["lost"] or one["failures"]]
    if not twin.lost:
        bad.append("the broken twin was not noticed, so nothing was shown")
    for text in bad:
        print(f"NOT AS IT MUST BE: {text}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="of each fault (the long ones: one)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--short", action="store_true", help="without the long ones")
    parser.add_argument("--only", default="", help="faults with this in their name")
    parser.add_argument("--out", type=Path, default=Path("build/faults.json"))
    sys.exit(asyncio.run(main(parser.parse_args())))
