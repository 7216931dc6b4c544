"""What is reported of a fault, from the verdicts of its runs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from tests.faults.cases import Case
from tests.faults.lab import Verdict


def summary(case: Case, verdicts: Sequence[Verdict | str], not_run: str = "") -> dict[str, Any]:
    """One row of the report; seconds are rounded to hundredths.

    Args:
        verdicts: of each run; a text says why a run gave none.
        not_run: why there are no runs on this machine.
    """
    done = [verdict for verdict in verdicts if isinstance(verdict, Verdict)]
    served = [verdict for verdict in done if not verdict.refused]
    failures = [verdict for verdict in verdicts if isinstance(verdict, str)]
    failures += [v.refused for v in done if v.refused and not case.may_refuse]
    twins = [verdict.twin for verdict in done if verdict.twin]
    return {
        "fault": case.name,
        "runs": len(verdicts),
        "not_run": not_run,
        "commits_per_second": round(statistics.median([v.rate for v in done])) if done else None,
        "acknowledged": sum(verdict.acknowledged for verdict in done),
        "lost": sum(len(verdict.lost) for verdict in done),
        "wrong_rows": sum(len(verdict.wrong_rows) for verdict in done),
        "refused": len(done) - len(served),
        "may_refuse": case.may_refuse,
        "failures": failures,
        "tail_events_most": max((verdict.lost_events for verdict in served), default=None),
        "rpo_most": round(max(v.rpo for v in served), 2) if served else None,
        "rto_median": round(statistics.median([v.rto for v in served]), 2) if served else None,
        "rto_most": round(max(v.rto for v in served), 2) if served else None,
        "twin": twins[0] if twins else "",
    }
