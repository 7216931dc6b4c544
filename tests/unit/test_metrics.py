"""Metrics: every one documented, few labels, families put together for a host."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from backup.lag import Lag
from fleet.agent.metrics import NODE_METRICS, of_host
from node.api_metrics import exposed
from node.engine.tally import Histogram
from node.metrics import METRICS, MOST_NAMES, OTHER, Family, Metric, _bounded
from node.order import NodeStatus

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
Row = tuple[str, str, tuple[str, ...]]


def declared() -> set[Row]:
    found: set[Row] = {(one.name, one.kind, one.labels) for one in METRICS.values()}
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
        NodeStatus(tenant="a", serving=True, epoch=3, lag=Lag(seconds=1.5)),
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
    assert [found["litefleet_node_answered", tenant] for tenant in "abc"] == [1, 1, 0]
    assert {name for name, _ in found} == {"litefleet_log_bytes", *(n for n, _, _ in NODE_METRICS)}
