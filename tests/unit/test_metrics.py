"""Metrics: every one documented, few labels, families put together for a host."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from backup.lag import Lag
from fleet.agent.metrics import NODE_METRICS, of_host
from fleet.cli.lag import over
from fleet.coordinator.api import create_app
from fleet.coordinator.metrics import FLEET_METRICS
from fleet.coordinator.metrics import exposed as of_fleet
from fleet.coordinator.timeline import KEPT, TimelineLog
from fleet.views import AlertView, HostView, LagView, Recovery, TenantView
from node.api_metrics import exposed
from node.engine.tally import Histogram
from node.metrics import METRICS, MOST_NAMES, OTHER, Family, Metric, _bounded
from node.order import NodeStatus

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
Row = tuple[str, str, tuple[str, ...]]


def declared() -> set[Row]:
    found: set[Row] = {(one.name, one.kind, one.labels) for one in METRICS.values()}
    found |= {(one.name, one.kind, one.labels) for one in FLEET_METRICS}
    return found | {(name, kind, ()) for name, kind, _ in NODE_METRICS}


def documented(text: str) -> set[Row]:
    rows = re.findall(r"^\| `(litefleet_\w+)` \| (\w+) \| ([^|]*)\|", text, re.MULTILINE)
    return {(name, kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def test_every_metric_is_documented_and_every_documented_one_is_there() -> None:
    assert len(declared()) > 30
    assert documented(PAGE.read_text()) == declared()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("| `litefleet_wal_bytes` | gauge", "| `litefleet_other_bytes` | gauge"),
        ("| `litefleet_wal_bytes` | gauge", "| `litefleet_wal_bytes` | counter"),
        ("| counter | `kind` |", "| counter | `name` |"),
        ("| `litefleet_node_epoch` | gauge | |", "| none |"),
        ("| `litefleet_tenant_alert` | gauge | `tenant`, `guard` |", "| none |"),
    ],
)
def test_a_page_that_is_wrong_is_noticed(old: str, new: str) -> None:
    text = PAGE.read_text()
    assert old in text
    assert documented(text.replace(old, new)) != declared()


def test_a_histogram_puts_a_value_on_a_bound_below_it() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 7.0):
        histogram.add(value)
    assert (histogram.counts, histogram.total, histogram.count) == ([2, 1, 1], 10.0, 4)
    family = Family(Metric("litefleet_x", "histogram", "x", ("activity",)))
    family.histograms["a",] = histogram
    text = exposed([family], "acme")[0].decode()
    (parsed,) = text_string_to_metric_families(text)
    buckets = {s.labels["le"]: s.value for s in parsed.samples if s.name.endswith("_bucket")}
    assert buckets == {"1.0": 2, "2.0": 3, "+Inf": 4}
    assert all(s.labels["tenant"] == "acme" for s in parsed.samples)


def test_too_many_names_are_put_together() -> None:
    family = Family(Metric("x", "counter", "x", ("workflow", "outcome")))
    for number in range(MOST_NAMES + 10):
        family.values[f"{number:04}", "failed"] = 2.0
    found = _bounded(family)
    assert len(found) == MOST_NAMES + 1
    assert found[OTHER, "failed"] == 20.0


def test_a_host_shows_each_family_once_with_all_of_its_tenants() -> None:
    nodes = [
        NodeStatus(tenant="a", serving=True, epoch=3, lag=Lag(seconds=1.5, bytes=77)),
        NodeStatus(tenant="b", serving=True, epoch=1),
        NodeStatus(tenant="c"),
    ]
    family = Family(METRICS["log_bytes"])
    engines = {}
    for tenant, size in (("a", 10.0), ("b", 20.0)):
        family.values[()] = size
        engines[tenant] = exposed([family], tenant)[0].decode()
    text = of_host(nodes, engines)
    assert text.count("# TYPE litefleet_log_bytes gauge") == 1
    found = {
        (sample.name, sample.labels["tenant"]): sample.value
        for one in text_string_to_metric_families(text)
        for sample in one.samples
    }
    assert found["litefleet_log_bytes", "a"] == 10
    assert found["litefleet_log_bytes", "b"] == 20
    assert found["litefleet_node_lag_seconds", "a"] == 1.5
    assert found["litefleet_node_lag_bytes", "a"] == 77
    assert [found["litefleet_node_answered", tenant] for tenant in "abc"] == [1, 1, 0]
    assert {name for name, _ in found} == {"litefleet_log_bytes", *(n for n, _, _ in NODE_METRICS)}


def tenant(name: str, **more: object) -> TenantView:
    given = {"name": name, "app": "a", "durability": "async", "state": "active"}
    return TenantView.model_validate(given | more)


def test_the_fleet_shows_what_is_known_and_nothing_else() -> None:
    recovery = Recovery(
        tenant="b", to_host="h2", from_epoch=1, epoch=2, cause="host_lost", at=9.0, rto_seconds=17.5
    )
    tenants = [
        tenant(
            "a", serving=True, epoch=1, sequence=9, proven_sequence=4, lag_seconds=2.5
        ).model_copy(
            update={
                "lag_txids": 1,
                "lag_bytes": 4096,
                "alerts": [AlertView(guard="wal", since=1, text="x")],
            }
        ),
        tenant("b", epoch=2, sequence=9, proven_sequence=4, recoveries=[recovery]),
    ]
    hosts = [
        HostView.model_validate({"name": "h1", "state": "fenced", "load": {"restoring": 3}}),
        HostView.model_validate({"name": "h2", "state": "live", "load": {"disk_free": 7}}),
    ]
    noted = {"drill_failed": 2}
    text = of_fleet(tenants, hosts, verified={"a": 5.0, "b": None}, noted=noted, braked=1)[0]
    found = {
        (one.name.removeprefix("litefleet_"), *one.labels.values()): one.value
        for family in text_string_to_metric_families(text.decode())
        for one in family.samples
    }
    assert found["tenant_lag_seconds", "a"] == 2.5
    assert found["tenant_lag_events", "a"] == 5
    assert found["tenant_lag_txids", "a"] == 1
    assert found["tenant_lag_bytes", "a"] == 4096
    assert found["tenant_alert", "wal", "a"] == 1
    assert found["tenant_verified_at_seconds", "a"] == 5
    assert [found["tenant_lag_known", name] for name in "ab"] == [1, 0]
    # Of a silent host nothing that it said before is repeated.
    assert not {("tenant_lag_seconds", "b"), ("tenant_lag_events", "b")} & set(found)
    assert ("tenant_verified_at_seconds", "b") not in found
    assert ("host_restoring", "h1") not in found
    assert found["host_disk_free_bytes", "h2"] == 7
    assert found["host_state", "h1", "fenced"] == 1
    assert found["braked_hosts",] == 1
    assert found["events_noted_total", "drill_failed"] == 2
    assert (found["takeover_seconds_count",], found["takeover_seconds_sum",]) == (1, 17.5)


def test_every_metric_of_the_fleet_has_its_family() -> None:
    text = of_fleet([], [], verified={}, noted={}, braked=0)[0].decode()
    shown = set(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    assert shown == {(one.name, one.kind) for one in FLEET_METRICS}


def test_the_timeline_counts_what_it_has_forgotten() -> None:
    log = TimelineLog(clock=lambda: 0.0)
    for _ in range(KEPT + 5):
        log.note("host_joined", "x")
    assert log.counts == {"host_joined": KEPT + 5}


def test_a_lag_that_is_not_known_is_not_a_small_one() -> None:
    rows = [
        LagView(tenant="a", lag_seconds=2.0, lag_txids=3),
        LagView(tenant="b", lag_seconds=0.0, lag_txids=0),
        LagView(tenant="c"),
    ]
    assert over(rows, None, None) == []
    assert over(rows, 2.0, 3) == ["c: how far it is behind is not known"]
    assert over(rows, 1.5, 2) == [
        "a is 2 s behind, more than 1.5",
        "a is 3 txids behind, more than 2",
        "c: how far it is behind is not known",
    ]
    rows[0].lag_bytes, rows[1].lag_bytes = 4096, 0
    assert over(rows, None, None, 4095) == [
        "a is 4096 bytes behind, more than 4095",
        "c: how far it is behind is not known",
    ]


def test_the_coordinator_tells_its_metrics_to_who_has_the_token() -> None:
    timeline = TimelineLog()
    timeline.note("brake", "x")
    coordinator = SimpleNamespace(
        tenants={},
        observer=SimpleNamespace(hosts={}),
        drills=SimpleNamespace(known={}),
        timeline=timeline,
        braked_hosts=("h1", "h2"),
        gate=SimpleNamespace(samples=lambda: [("litefleet_gateway_held", ("acme",), 3.0)]),
    )
    app = create_app(cast(Any, coordinator), "secret")

    async def ask(token: str) -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://fleet") as client:
            return await client.get("/metrics", headers={"authorization": f"Bearer {token}"})

    assert asyncio.run(ask("other")).status_code == 401
    answer = asyncio.run(ask("secret"))
    assert answer.headers["content-type"].startswith("text/plain")
    assert "litefleet_braked_hosts 2.0" in answer.text
    assert 'litefleet_events_noted_total{kind="brake"} 1.0' in answer.text
    assert 'litefleet_gateway_held{tenant="acme"} 3.0' in answer.text
