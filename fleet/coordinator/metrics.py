"""The metrics of the fleet, as its coordinator sees it: tenants, hosts, and what was done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fleet.gateway.tally import GATEWAY_METRICS
from fleet.gateway.tally import Sample as GatewaySample
from fleet.views import HostView, TenantView

Sample = tuple[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class FleetMetric:
    """A family. `kind`: gauge, counter or summary."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()


_OF_TENANT = ("tenant",)
_OF_HOST = ("host",)

FLEET_METRICS: Final = (
    FleetMetric("litefleet_tenant_state", "gauge", "1 for its state", ("tenant", "state")),
    FleetMetric("litefleet_tenant_serving", "gauge", "1 while its engine answers", _OF_TENANT),
    FleetMetric("litefleet_tenant_epoch", "gauge", "its epoch", _OF_TENANT),
    FleetMetric(
        "litefleet_tenant_lag_known", "gauge", "1 while its active node tells its lag", _OF_TENANT
    ),
    FleetMetric(
        "litefleet_tenant_lag_seconds", "gauge", "age of its oldest unproven commit", _OF_TENANT
    ),
    FleetMetric("litefleet_tenant_lag_events", "gauge", "events that are not proven", _OF_TENANT),
    FleetMetric("litefleet_tenant_lag_txids", "gauge", "txids that are not replicated", _OF_TENANT),
    FleetMetric(
        "litefleet_tenant_lag_bytes", "gauge", "bytes of its WAL not in the bucket", _OF_TENANT
    ),
    FleetMetric(
        "litefleet_tenant_proven_at_seconds", "gauge", "when it was last proven", _OF_TENANT
    ),
    FleetMetric(
        "litefleet_tenant_verified_at_seconds",
        "gauge",
        "when the last drill began that restored its backup well",
        _OF_TENANT,
    ),
    FleetMetric(
        "litefleet_tenant_purge_blocked",
        "gauge",
        "1 while a deleted tenant is not removed though its time has come",
        _OF_TENANT,
    ),
    FleetMetric("litefleet_tenant_alert", "gauge", "1 while a guard warns", ("tenant", "guard")),
    FleetMetric("litefleet_host_state", "gauge", "1 for its state", ("host", "state")),
    FleetMetric(
        "litefleet_host_lease_age_seconds", "gauge", "since its lease was renewed", _OF_HOST
    ),
    FleetMetric("litefleet_host_nodes", "gauge", "nodes that run there", _OF_HOST),
    FleetMetric("litefleet_host_restoring", "gauge", "nodes that restore there", _OF_HOST),
    FleetMetric(
        "litefleet_host_memory_available_bytes", "gauge", "memory that it has left", _OF_HOST
    ),
    FleetMetric("litefleet_host_disk_free_bytes", "gauge", "disk that it has left", _OF_HOST),
    FleetMetric("litefleet_braked_hosts", "gauge", "hosts that wait for `litefleet resume`"),
    FleetMetric("litefleet_events_noted_total", "counter", "entries of the timeline", ("kind",)),
    FleetMetric("litefleet_takeover_seconds", "summary", "from a host's loss to serving"),
    *(FleetMetric(*one) for one in GATEWAY_METRICS),
)


def exposed(
    tenants: Iterable[TenantView],
    hosts: Iterable[HostView],
    *,
    verified: Mapping[str, float | None],
    noted: Mapping[str, int],
    braked: int,
    gateway: Iterable[GatewaySample] = (),
) -> tuple[bytes, str]:
    """All of it in the text format of Prometheus, and what that is called.

    Args:
        verified: when each tenant's backup was last restored well, unix seconds.
        noted: how many entries of each kind the timeline was given.
        braked: how many hosts look lost and are not fenced.
        gateway: what its own gateway has done.
    """
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    found: dict[str, list[Sample]] = {one.name: [] for one in FLEET_METRICS}
    takeovers: list[float] = []
    for tenant in tenants:
        takeovers += [one.rto_seconds for one in tenant.recoveries]
        for name, labels, value in _of_tenant(tenant, verified.get(tenant.name)):
            if value is not None:
                found[name].append(((tenant.name, *labels), float(value)))
    for host in hosts:
        for name, labels, value in _of_host(host):
            if value is not None:
                found[name].append(((host.name, *labels), float(value)))
    found["litefleet_braked_hosts"].append(((), float(braked)))
    found["litefleet_events_noted_total"] += [((kind,), float(n)) for kind, n in noted.items()]

    for name, labels, value in gateway:
        found[name].append((labels, value))

    class Registry:
        def collect(self) -> Iterator[Any]:
            for metric in FLEET_METRICS:
                yield _family(metric, found[metric.name], takeovers)

    return generate_latest(Registry()), CONTENT_TYPE_LATEST


Found = tuple[str, tuple[str, ...], float | None]


def _of_tenant(one: TenantView, verified: float | None) -> Iterator[Found]:
    yield "litefleet_tenant_state", (one.state,), 1
    if one.deletion is not None:
        yield "litefleet_tenant_purge_blocked", (), bool(one.deletion.blocked)
        return
    known = one.lag_seconds is not None
    proven = one.proven_sequence
    behind = max(0, one.sequence - proven) if known and proven is not None else None
    yield "litefleet_tenant_serving", (), one.serving
    yield "litefleet_tenant_epoch", (), one.epoch
    yield "litefleet_tenant_lag_known", (), known
    yield "litefleet_tenant_lag_seconds", (), one.lag_seconds
    yield "litefleet_tenant_lag_events", (), behind
    yield "litefleet_tenant_lag_txids", (), one.lag_txids
    yield "litefleet_tenant_lag_bytes", (), one.lag_bytes
    yield "litefleet_tenant_proven_at_seconds", (), one.proven_at
    yield "litefleet_tenant_verified_at_seconds", (), verified
    for guard in sorted({alert.guard for alert in one.alerts}):
        yield "litefleet_tenant_alert", (guard,), 1


def _of_host(one: HostView) -> Iterator[Found]:
    yield "litefleet_host_state", (one.state,), 1
    yield "litefleet_host_lease_age_seconds", (), one.lease_age_seconds
    yield "litefleet_host_nodes", (), len(one.tenants)
    if one.state == "fenced":
        return  # what it said last is not how things are
    yield "litefleet_host_restoring", (), one.load.restoring
    yield "litefleet_host_memory_available_bytes", (), one.load.memory_available
    yield "litefleet_host_disk_free_bytes", (), one.load.disk_free


def _family(metric: FleetMetric, samples: Iterable[Sample], takeovers: list[float]) -> Any:
    from prometheus_client import core

    if metric.kind == "summary":
        return core.SummaryMetricFamily(
            metric.name, metric.help, count_value=len(takeovers), sum_value=sum(takeovers)
        )
    kind = core.CounterMetricFamily if metric.kind == "counter" else core.GaugeMetricFamily
    shown = kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in samples:
        shown.add_metric(labels, value)
    return shown
