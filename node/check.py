"""The process of one upgrade check: ``python -m node.check FD PARENT``.

It reads its order from standard input, loads the code, replays what is open in the log, and
writes lines of JSON, each a part of a `CheckStatus`, to the open file FD. The log may be in use.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from typing import Any

from backup.parent import die_with_parent
from node.checks import CheckProblem, CheckStatus
from node.engine.application import Application, load_app, load_kept
from node.engine.durability import Durability
from node.engine.errors import EngineError
from node.engine.upgrade import UpgradeReport, Verdict, check_upgrade
from node.order import CheckOrder

FINDINGS = 500
"""Findings that are sent; the others are counted."""
SAY_EVERY = 0.1
"""Seconds between two lines about progress, at the least."""


def main(out: int, parent: int) -> None:
    """Make one check."""
    die_with_parent(parent)
    # What serves comes first.
    os.nice(10)
    order = CheckOrder.model_validate_json(sys.stdin.buffer.readline())
    os.environ.clear()
    os.environ.update(order.env)
    lines = _Lines(out)
    loaded = False
    try:
        application = load_app(order.app)
        kept = [load_kept(older, order.app) for older in order.kept]
        loaded = True
        report = _check(order, application, kept, lines)
    except EngineError as error:
        problem = CheckProblem(type=type(error).__name__, message=str(error), hint=error.hint)
        lines.say(state="failed", problem=problem)
    except Exception as error:
        # Whatever the tenant's code raises when it is imported; after that, a mistake of ours.
        what = "the check failed" if loaded else f"{order.app} cannot be loaded"
        problem = CheckProblem(
            type="check_failed" if loaded else "application_failed",
            message=f"{what}: {type(error).__name__}: {error}",
            hint="Mend it, then try again. Nothing was changed.",
            trace="".join(traceback.format_exception(error)).rstrip()[-8000:],
        )
        lines.say(state="failed", problem=problem)
    else:
        to_pin = [
            finding.execution
            for finding in report.findings
            if finding.version is None and finding.verdict is not Verdict.PARKED
        ]
        left_out = max(0, len(report.findings) - FINDINGS)
        report.findings = report.findings[:FINDINGS]
        lines.say(state="done", report=report, left_out=left_out, to_pin=to_pin)


def _check(
    order: CheckOrder, application: Application, kept: list[Application], lines: _Lines
) -> UpgradeReport:
    said = 0.0

    def progress(done: int, of: int) -> None:
        nonlocal said
        if time.monotonic() - said >= SAY_EVERY:
            said = time.monotonic()
            lines.say(done=done, of=of)

    return check_upgrade(
        order.database,
        application,
        kept=kept,
        floor=Durability(order.durability),
        progress=progress,
    )


class _Lines:
    def __init__(self, out: int) -> None:
        self._file = os.fdopen(out, "wb")

    def say(self, **fields: Any) -> None:
        status = CheckStatus(id="", app="", **fields)
        self._file.write(status.model_dump_json(exclude_unset=True).encode() + b"\n")
        self._file.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
