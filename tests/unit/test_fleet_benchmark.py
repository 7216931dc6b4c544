"""The fleet's benchmark: its aims are the same, whether a measurement ran or not."""

from __future__ import annotations

from typing import Any

from tests.benchmarks.fleet.goals import judge
from tests.benchmarks.fleet.recovering import PHASES

BOTH = {"p50": 1.0, "p99": 2.0}
RECOVERY: dict[str, Any] = {
    "tenants": 3,
    "rto": BOTH,
    "after_detection": BOTH,
    "bare_restore": BOTH,
    "phases": dict.fromkeys(PHASES, BOTH),
}
MEASURED: dict[str, dict[str, Any]] = {
    "provisioning": {
        "provisions_per_second": 4.0,
        "first_workflow_p50": 0.5,
        "first_workflow_p99": 0.9,
    },
    "recovery of one": RECOVERY,
    "recovery of all": RECOVERY | {"bare_restore_of_all": 5.0},
    "waking": {"wakes": 3, **BOTH},
    "gateway": dict.fromkeys(("direct", "host", "coordinator", "added"), BOTH),
    "idling": {
        "tenants": 3,
        "memory": 40.0,
        "memory_of": {"engine": 40.0},
        "processor": 0.5,
        "processor_of": {"engine": 0.5},
    },
}


def test_what_did_not_run_is_neither_met_nor_missed() -> None:
    aims = judge({})
    assert len(aims) == len(judge(MEASURED))
    assert {(aim.measured, aim.met) for aim in aims} == {(None, None)}


def test_each_aim_has_its_figure_and_the_recoveries_have_their_phases() -> None:
    aims = {aim.name: aim for aim in judge(MEASURED)}
    assert all(aim.measured is not None for aim in aims.values())
    recovery = aims["RTO, all tenants of a lost host, s, p99"]
    assert recovery.measured == 2.0
    assert all(phase in recovery.note for phase in PHASES)
    assert "bare litestream restore 2.00, of all 5.00" in recovery.note


def test_memory_is_held_against_its_limit() -> None:
    def met(memory: float) -> bool | None:
        [aim] = [
            aim
            for aim in judge({"idling": MEASURED["idling"] | {"memory": memory}})
            if "memory" in aim.name
        ]
        return aim.met

    assert (met(40.0), met(40.1)) == (True, False)
