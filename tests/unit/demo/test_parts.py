"""The demo's small decisions: whom to lose, what to leave out of the count, what to show."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from fleet.demo.display import Board, Display
from fleet.demo.facts import Effect
from fleet.demo.loss import ZOMBIE_PREFIX, busiest
from fleet.demo.run import _slug, _without_probes, tenant_names
from fleet.views import Executions, TenantView, TimelineEntry


def _tenant(name: str, host: str | None, running: int) -> TenantView:
    return TenantView(
        name=name,
        app="app",
        durability="async",
        state="active",
        host=host,
        executions=Executions(running=running),
    )


def test_the_busiest_host_has_the_most_running_executions() -> None:
    tenants = [_tenant("a", "one", 5), _tenant("b", "two", 4), _tenant("c", "two", 4)]
    assert busiest(tenants, ()) == "two"
    assert busiest(tenants, {"two"}) == "one"
    assert busiest(tenants, {"one", "two"}) is None
    assert busiest([_tenant("a", None, 9)], ()) is None


def test_of_hosts_that_are_equally_busy_the_one_with_more_tenants_is_lost() -> None:
    tenants = [_tenant("a", "one", 0), _tenant("b", "two", 0), _tenant("c", "two", 0)]
    assert busiest(tenants, ()) == "two"


def _effect(tenant: str, execution: str) -> Effect:
    return Effect(tenant, execution, f"key-{execution}", {}, 1.0)


def test_effects_of_a_host_without_authority_are_a_finding_only_where_they_must_be_proven() -> None:
    ordinary = _effect("acme", "acme-001")
    probe = _effect("acme", f"{ZOMBIE_PREFIX}-acme-0")
    kept, findings = _without_probes([ordinary, probe], {"acme": "async"})
    assert (kept, findings) == ([ordinary], [])
    kept, findings = _without_probes([ordinary, probe], {"acme": "before_effects"})
    assert kept == [ordinary]
    assert len(findings) == 1


def test_half_of_the_tenants_are_async() -> None:
    names = tenant_names(12)
    assert len(names) == 12
    assert sorted(names.values()).count("async") == 6


@pytest.mark.parametrize(
    ("document", "slug"), [("The_if-Statement", "007-the-if-statement"), ("//", "007")]
)
def test_an_executions_id_names_its_document(document: str, slug: str) -> None:
    assert _slug(7, document) == slug


def test_the_board_shows_every_tenant_and_what_is_not_known() -> None:
    board = Board(tenants=[_tenant("acme", "host-1", 3)], planned=10, finished=4)
    console = Console(file=io.StringIO(), width=120)
    console.print(board.render())
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "acme" in text
    assert "4 of 10" in text
    assert "?" in text


def test_a_timeline_entry_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(live=False)
    entries = [TimelineEntry(n=n, at=1.0, kind="x", text=f"entry {n}") for n in (1, 2)]
    display.follow(entries)
    display.follow(entries)
    assert [text for _, text in display.board.lines] == ["entry 1", "entry 2"]
    assert display.seen == 2
    assert capsys.readouterr().out == ""
