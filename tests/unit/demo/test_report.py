"""The report says ok only when every witness agrees."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from fleet.demo.check import Finding, Loss, Verdict
from fleet.demo.facts import Acknowledgement, Expectation, TenantFacts
from fleet.demo.report import (
    Conditions,
    LostHost,
    Report,
    Spread,
    ZombieReport,
    compose,
    render,
)
from fleet.views import Bookmark, Recovery, RecoverySplit

CONDITIONS = Conditions(
    cores=2,
    memory_mb=4096,
    system="Linux",
    python="3.11.7",
    sqlite="3.54.1",
    litestream="0.5.17",
    store="embedded SeaweedFS",
    seed=1,
)


def _facts(name: str = "acme") -> TenantFacts:
    return TenantFacts(
        tenant=name,
        durability="async",
        expected={"doc-a": Expectation("doc-a", 1, {"a": 1}, None)},
        acknowledged=(Acknowledgement("doc-a", True, Bookmark(epoch=1, sequence=1), 1.0),),
    )


def _verdict(**changes: Any) -> Verdict:
    values: dict[str, Any] = {
        "tenant": "acme",
        "findings": (),
        "completed": 1,
        "lost_acknowledged": 0,
        "lost_unproven": 0,
        "duplicate_effects": 0,
    }
    return Verdict(**(values | changes))


RECOVERY = Recovery(
    tenant="acme",
    from_host="host-1",
    to_host="host-2",
    from_epoch=1,
    epoch=2,
    cause="host_lost",
    at=20.0,
    rto_seconds=18.0,
    split=RecoverySplit(detect=16.5, fence=0.1, claim=0.1, fetch=0.6, verify=0.2, start=0.5),
)
LOST = LostHost(host="host-1", how="kill", at=2.0, tenants=["acme"], executions_running=5)


def _report(**changes: Any) -> Report:
    values: dict[str, Any] = {
        "facts": [_facts()],
        "verdicts": [_verdict()],
        "losses": [Loss("acme", 3, 0.8)],
        "lost_hosts": [LOST],
        "zombies": [],
        "recoveries": [RECOVERY],
        "places": {"acme": ("host-2", 2)},
        "how": "kill",
        "retries": 4,
        "other_findings": [],
        "seconds": 60.04,
        "conditions": CONDITIONS,
    }
    return compose(**(values | changes))


def _zombie(**changes: Any) -> ZombieReport:
    values: dict[str, Any] = {
        "host": "host-1",
        "asked": 5,
        "answered_durable": 0,
        "stopped_itself": True,
    }
    return ZombieReport(**(values | changes))


def test_a_good_run_is_ok_and_has_its_figures() -> None:
    report = _report()
    assert report.ok
    assert report.hosts_lost == 1
    assert report.lost_committed_steps == 3
    assert report.lost_committed_steps_by_durability == {"async": 3}
    assert report.rpo_seconds == Spread(p50=0.8, max=0.8)
    assert report.rto_after_detection_seconds.p50 == pytest.approx(1.5)
    assert report.starts == {"durable": 1, "async": 0}


FINDING = Finding("missing_row", "acme", "doc-a", "the table lacks a row")


@pytest.mark.parametrize(
    "changes",
    [
        {"verdicts": [_verdict(findings=(FINDING,))]},
        {"verdicts": [_verdict(lost_acknowledged=1)]},
        {"verdicts": [_verdict(completed=0)]},
        {"other_findings": ["the host was not recovered"]},
        {"recoveries": []},
        {"recoveries": [RECOVERY.model_copy(update={"from_host": "host-3"})]},
        {"lost_hosts": [LOST, LOST]},
        {"zombies": [_zombie(answered_durable=1)]},
        {"zombies": [_zombie(stopped_itself=False)]},
        {"facts": [TenantFacts("acme", "async", {})], "verdicts": [_verdict(completed=0)]},
    ],
    ids=[
        "a finding",
        "a lost acknowledgement",
        "an unfinished execution",
        "a finding from elsewhere",
        "no recovery",
        "a recovery from another host",
        "one recovery for two losses",
        "a zombie that answered as durable",
        "a zombie that runs on",
        "nothing was run at all",
    ],
)
def test_anything_wrong_makes_it_not_ok(changes: dict[str, Any]) -> None:
    assert not _report(**changes).ok


def test_a_zombie_that_behaves_is_ok() -> None:
    assert _report(zombies=[_zombie(seconds_to_stop=0.4)]).ok


@pytest.mark.parametrize("report", [_report(), _report(recoveries=[])], ids=["ok", "not ok"])
def test_it_renders_and_survives_json(report: Report) -> None:
    console = Console(file=io.StringIO(), width=120)
    console.print(render(report))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert ("lost nothing" in text) == report.ok
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_a_spread_of_nothing_is_empty() -> None:
    assert Spread.of([]) == Spread(p50=None, max=None)
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(p50=2.0, max=3.0)
