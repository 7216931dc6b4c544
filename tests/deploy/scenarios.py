"""A scenario for each alert, for `promtool test rules`: what is seen, and what alerts then."""

from __future__ import annotations

from typing import Any

QUIET = "0x600"
"""A value that stays, for the ten hours that a scenario lasts at most."""

#: For each alert: series that set it off and their values a minute, and the labels that it has.
LOUD: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "CoordinatorDown": ({'up{job="litefleet", part="coordinator"}': "0x600"}, {}),
    "HostsLookLost": ({"litefleet_braked_hosts": "3x600"}, {}),
    "HostFenced": (
        {'litefleet_host_state{host="h", state="fenced"}': "1x600"},
        {"host": "h", "state": "fenced"},
    ),
    "HostShortOfMemory": (
        {'litefleet_host_memory_available_bytes{host="h"}': "100000000x600"},
        {"host": "h"},
    ),
    "HostShortOfDisk": (
        {'litefleet_host_disk_free_bytes{host="h"}': "1000000000x600"},
        {"host": "h"},
    ),
    "TakeoversFail": (
        {'litefleet_events_noted_total{kind="takeover_failed"}': "0+1x600"},
        {"kind": "takeover_failed"},
    ),
    "TenantDamaged": (
        {'litefleet_tenant_state{tenant="t", state="damaged"}': "1x600"},
        {"tenant": "t", "state": "damaged"},
    ),
    "TenantDoesNotServe": (
        {
            'litefleet_tenant_state{tenant="t", state="active"}': "1x600",
            'litefleet_tenant_serving{tenant="t"}': "0x600",
        },
        {"tenant": "t", "state": "active"},
    ),
    "TenantIsAway": (
        {'litefleet_tenant_state{tenant="t", state="restoring"}': "1x600"},
        {"tenant": "t", "state": "restoring"},
    ),
    "NotProven": ({'litefleet_tenant_lag_seconds{tenant="t"}': "45x600"}, {"tenant": "t"}),
    "LagIsNotKnown": (
        {
            'litefleet_tenant_lag_known{tenant="t"}': "0x600",
            'litefleet_tenant_state{tenant="t", state="active"}': "1x600",
        },
        {"tenant": "t"},
    ),
    "BackupNotVerified": (
        {'litefleet_tenant_verified_at_seconds{tenant="t"}': "-300000x600"},
        {"tenant": "t"},
    ),
    "DrillsFail": (
        {'litefleet_events_noted_total{kind="drill_failed"}': "0+1x600"},
        {"kind": "drill_failed"},
    ),
    "GuardWarns": (
        {'litefleet_tenant_alert{tenant="t", guard="wal"}': "1x600"},
        {"tenant": "t", "guard": "wal"},
    ),
    "RemovalBlocked": ({'litefleet_tenant_purge_blocked{tenant="t"}': "1x600"}, {"tenant": "t"}),
    "EngineRestarts": (
        {'litefleet_node_engine_restarts_total{tenant="t"}': "0+1x600"},
        {"tenant": "t"},
    ),
    "SidecarRestarts": (
        {'litefleet_node_sidecar_restarts_total{tenant="t"}': "0+1x600"},
        {"tenant": "t"},
    ),
    "ExecutionsDiverged": (
        {'litefleet_executions_open{tenant="t", workflow="w", state="diverged"}': "2x600"},
        {"tenant": "t", "workflow": "w"},
    ),
    "ActivityFails": (
        {'litefleet_attempts_total{tenant="t", activity="a", outcome="failed"}': "0+1x600"},
        {"tenant": "t", "activity": "a"},
    ),
    "TimersAreLate": ({'litefleet_timer_lag_seconds{tenant="t"}': "90x600"}, {"tenant": "t"}),
    "LoopIsBlocked": ({'litefleet_loop_lag_seconds{tenant="t"}': "2x600"}, {"tenant": "t"}),
}

#: A fleet in which all is well: nothing alerts, for hours.
WELL: dict[str, str] = {
    'up{job="litefleet", part="coordinator"}': "1x600",
    "litefleet_braked_hosts": QUIET,
    'litefleet_host_state{host="h", state="fenced"}': QUIET,
    'litefleet_host_state{host="h", state="live"}': "1x600",
    'litefleet_host_memory_available_bytes{host="h"}': "8000000000x600",
    'litefleet_host_disk_free_bytes{host="h"}': "80000000000x600",
    'litefleet_events_noted_total{kind="takeover_failed"}': "1x600",
    'litefleet_events_noted_total{kind="drill_failed"}': "1x600",
    'litefleet_tenant_state{tenant="t", state="active"}': "1x600",
    'litefleet_tenant_state{tenant="t", state="restoring"}': QUIET,
    'litefleet_tenant_state{tenant="t", state="damaged"}': QUIET,
    'litefleet_tenant_state{tenant="asleep", state="released"}': "1x600",
    'litefleet_tenant_serving{tenant="t"}': "1x600",
    'litefleet_tenant_serving{tenant="asleep"}': QUIET,
    'litefleet_tenant_lag_known{tenant="t"}': "1x600",
    'litefleet_tenant_lag_known{tenant="asleep"}': QUIET,
    'litefleet_tenant_lag_seconds{tenant="t"}': "1x600",
    'litefleet_tenant_verified_at_seconds{tenant="t"}': "0+60x600",
    'litefleet_tenant_alert{tenant="t", guard="wal"}': QUIET,
    'litefleet_tenant_purge_blocked{tenant="t"}': QUIET,
    'litefleet_node_engine_restarts_total{tenant="t"}': "7x600",
    'litefleet_node_sidecar_restarts_total{tenant="t"}': "7x600",
    'litefleet_executions_open{tenant="t", workflow="w", state="diverged"}': QUIET,
    'litefleet_attempts_total{tenant="t", activity="a", outcome="failed"}': "5x600",
    'litefleet_timer_lag_seconds{tenant="t"}': QUIET,
    'litefleet_loop_lag_seconds{tenant="t"}': QUIET,
}


def series(values: dict[str, str]) -> list[dict[str, str]]:
    """As promtool reads them."""
    return [{"series": name, "values": value} for name, value in values.items()]


def suite(alerts: dict[str, dict[str, str]], rules: str) -> dict[str, Any]:
    """Each alert is set off by its scenario, and none by a fleet in which all is well.

    Args:
        alerts: by name, the labels that each has beside those of its series.
    """
    tests: list[dict[str, Any]] = []
    for name, (seen, labels) in LOUD.items():
        if name not in alerts:
            continue
        expected = [{"exp_labels": labels | alerts[name]}]
        asked = [{"eval_time": "2h", "alertname": name, "exp_alerts": expected}]
        tests.append(
            {"interval": "1m", "input_series": series(seen), "alert_rule_test": asked, "name": name}
        )
    silent = [{"eval_time": "9h", "alertname": name, "exp_alerts": []} for name in alerts]
    tests.append(
        {
            "interval": "1m",
            "name": "all is well",
            "input_series": series(WELL),
            "alert_rule_test": silent,
        }
    )
    return {"rule_files": [rules], "evaluation_interval": "1m", "tests": tests}
