"""`python -m tests.faults`: every fault, many times, with the books compared each time.

Prints a line a run and writes what was found as JSON. Exit code 1 if anything that was acknowledged
as durable is missing anywhere, or if the broken twin of a case is not noticed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from backup.litestream import binary
from fleet.seaweed import EmbeddedStore
from tests.faults import grounds
from tests.faults.cases import CASES, Case
from tests.faults.lab import RATE, Verdict, lab
from tests.faults.page import page
from tests.faults.summary import summary


async def run(case: Case, store: EmbeddedStore, folder: Path, seed: int, twin: bool) -> Verdict:
    """One run, and with ``twin`` what is found in a bucket that was robbed before the take-over.

    Raises:
        NotHere: the fault cannot be made on this machine.
    """
    near = store.settings(f"fault-{time.monotonic_ns()}")
    folder.mkdir()
    with ExitStack() as ground:
        more = grounds.clock_environment(folder) if case.ground == "clock" else None
        disk = ground.enter_context(grounds.small_disk(folder)) if case.ground == "disk" else None
        async with lab(near, folder, twin=twin, more=more) as made:
            if disk is not None:
                made.host.data = disk
            if case.direct:
                made.host.settings = near
            await made.start()
            return await case.does(made, random.Random(seed))


def line(case: Case, seed: int, found: Verdict | str) -> str:
    if isinstance(found, str):
        return f"✗ {case.name} ({seed}): {found}"
    bad = found.lost or found.wrong_rows or (found.refused and not case.may_refuse)
    told = (
        f"{found.acknowledged} acknowledged, {len(found.lost)} lost, {len(found.wrong_rows)} with "
        f"wrong rows, {found.rate:.0f} commits/s, tail {found.lost_events}"
    )
    end = f"refused: {found.refused[:100]}" if found.refused else f"RTO {found.rto:.2f} s"
    twin = f"; the twin: {found.twin}" if found.twin else ""
    return f"{'✗' if bad else '✓'} {case.name} ({seed}): {told}, {end}{twin}"


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
                why = ""
                for turn in range(1 if case.long else arguments.runs):
                    seed = arguments.seed + turn
                    told: Verdict | str
                    try:
                        at = folder / f"{number}-{turn}"
                        told = await run(case, store, at, seed, twin=turn == 0)
                    except grounds.NotHere as error:
                        why = str(error)
                        print(f"- {case.name}: {why}", flush=True)
                        break
                    except (Exception, BaseExceptionGroup, pytest.fail.Exception) as error:
                        told = f"{type(error).__name__}: {error}"
                    verdicts.append(told)
                    print(line(case, seed, told), flush=True)
                report.append(summary(case, verdicts, why))
    whole = {"conditions": conditions(arguments), "faults": report}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(whole, indent=1) + "\n")
    if arguments.docs is not None:
        (arguments.docs / "reliability.json").write_text(json.dumps(whole, indent=1) + "\n")
        (arguments.docs / "reliability.md").write_text(page(whole))
    bad = [
        f"{one['fault']}: {one['lost']} lost, {one['wrong_rows']} with wrong rows, "
        f"{'; '.join(one['failures'])}"
        for one in report
        if one["lost"] or one["wrong_rows"] or one["failures"]
    ]
    bad += [
        f"{one['fault']}: its broken twin was not noticed, so nothing was shown"
        for one in report
        if one["runs"] and not one["twin"]
    ]
    for text in bad:
        print(f"NOT AS IT MUST BE: {text}", file=sys.stderr)
    return 1 if bad else 0


def conditions(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the runs were made on."""
    return {
        "day": datetime.now(UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "litestream": binary.VERSION,
        "store": "SeaweedFS",
        "runs": arguments.runs,
        "seed": arguments.seed,
        "commits_wanted": RATE,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="of each fault (the long ones: one)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--short", action="store_true", help="without the long ones")
    parser.add_argument("--only", default="", help="faults with this in their name")
    parser.add_argument("--out", type=Path, default=Path("build/faults.json"))
    parser.add_argument("--docs", type=Path, help="write reliability.md into this folder too")
    sys.exit(asyncio.run(main(parser.parse_args())))
