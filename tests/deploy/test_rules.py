"""The alert rules, by promtool: well formed, and each set off by its scenario and by no other."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.scenarios import LOUD, suite

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "litefleet.rules.yml"
ALERT = re.compile(r"- alert: (\w+)\n(?:.*\n)*?        labels: \{severity: (\w+)\}")


def promtool(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *words], capture_output=True, text=True, timeout=60, check=False
    )


def run(folder: Path, rules: str) -> subprocess.CompletedProcess[str]:
    """All scenarios, with these rules; what they say to people is left out."""
    alerts = {name: {"severity": severity} for name, severity in ALERT.findall(rules)}
    file = folder / "rules.yml"
    file.write_text(re.sub(r"        annotations:\n          summary: .*\n", "", rules))
    tests: dict[str, Any] = suite(alerts, str(file))
    (folder / "tests.yml").write_text(json.dumps(tests))
    return promtool("test", "rules", str(folder / "tests.yml"))


def test_they_are_well_formed() -> None:
    done = promtool("check", "rules", str(RULES))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(LOUD)} rules found" in done.stdout


def test_the_configuration_is_well_formed() -> None:
    done = promtool("check", "config", "--syntax-only", str(RULES.with_name("prometheus.yml")))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_scenario() -> None:
    assert {name for name, _ in ALERT.findall(RULES.read_text())} == set(LOUD)


def test_each_is_set_off_by_its_scenario_and_none_when_all_is_well(tmp_path: Path) -> None:
    done = run(tmp_path, RULES.read_text())
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("litefleet_braked_hosts > 0", "litefleet_braked_hosts > 5"),
        ("litefleet_tenant_lag_seconds > 30", "litefleet_tenant_lag_seconds >= 0"),
        ("takeover_failed", "takeover_fails"),
        ("litefleet_tenant_alert == 1", "litefleet_tenant_alert == 0"),
        (' and on (tenant) litefleet_tenant_state{state="active"} == 1', ""),
    ],
)
def test_a_rule_that_is_wrong_is_noticed(tmp_path: Path, old: str, new: str) -> None:
    text = RULES.read_text()
    assert old in text
    assert run(tmp_path, text.replace(old, new)).returncode != 0
