"""Alert rules, dashboard and how-to page: every metric in them exists, every alert is explained."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULES = (ROOT / "deploy" / "prometheus" / "litefleet.rules.yml").read_text()
DASHBOARD = (ROOT / "deploy" / "grafana" / "litefleet.json").read_text()
METRICS = (ROOT / "docs" / "reference" / "metrics.md").read_text()
PAGE = (ROOT / "docs" / "how-to" / "watch-a-fleet.md").read_text()


def documented() -> dict[str, tuple[str, set[str]]]:
    """Each metric's kind, and its labels as far as its row has them."""
    rows = re.findall(r"^\| `(litefleet_\w+)` \| (\w+) \| ([^|]*)\|", METRICS, re.MULTILINE)
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def unknown(text: str) -> set[str]:
    """Metrics, and labels that something is selected by, which do not exist."""
    known, wrong = documented(), set()
    for whole, selector in re.findall(r"\b(litefleet_\w+)(\{[^}]*\})?", text):
        name = whole
        for ending in ("_bucket", "_sum", "_count"):
            base = whole.removesuffix(ending)
            if base != whole and known.get(base, ("",))[0] in ("histogram", "summary"):
                name = base
        if name not in known:
            wrong.add(name)
            continue
        labels = known[name][1] | {"tenant"}
        wrong |= {
            f"{name}.{label}"
            for label in re.findall(r"(\w+)\s*(?:=~|!=|=)", selector)
            if label not in labels
        }
    return wrong


def queries(dashboard: str) -> str:
    body = json.loads(dashboard)
    asked = [target["expr"] for panel in body["panels"] for target in panel.get("targets", [])]
    asked += [str(one["query"]) for one in body["templating"]["list"]]
    return "\n".join(asked)


def test_every_metric_of_the_rules_and_of_the_dashboard_exists() -> None:
    assert unknown(RULES) == set()
    assert unknown(queries(DASHBOARD)) == set()
    assert len(re.findall("litefleet_", queries(DASHBOARD))) > 20


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("litefleet_braked_hosts", "litefleet_broken_hosts"),
        ('litefleet_host_state{state="fenced"}', 'litefleet_host_state{status="fenced"}'),
    ],
)
def test_one_that_does_not_is_noticed(old: str, new: str) -> None:
    assert old in RULES
    assert old in queries(DASHBOARD)
    assert unknown(RULES.replace(old, new)) != set()
    assert unknown(queries(DASHBOARD).replace(old, new)) != set()


def alerts(rules: str) -> set[str]:
    return set(re.findall(r"- alert: (\w+)", rules))


def explained(page: str) -> set[str]:
    return set(re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", page, re.MULTILINE))


def test_every_alert_is_explained_with_what_to_do() -> None:
    assert alerts(RULES) == explained(PAGE)
    assert explained(PAGE.replace("| `NotProven` |", "| NotProven |")) != alerts(RULES)


def test_panels_do_not_lie_on_one_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD)["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
