"""The judge must pass a faithful run and catch every kind of unfaithful one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from fleet.demo.check import Owner, canonical, count_loss, judge, restored_part, usurped
from fleet.demo.facts import (
    Acknowledgement,
    Completion,
    Effect,
    Event,
    Execution,
    Expectation,
    LostLog,
    TenantFacts,
)
from fleet.views import Bookmark

IDS = ("doc-a", "doc-b", "doc-c")


def _expectation(id: str) -> Expectation:
    return Expectation(
        execution=id,
        result={"document": id, "words": len(id)},
        row={"document": id, "summary": f"about {id}"},
        effect={"document": id},
    )


def faithful() -> TenantFacts:
    """A run in which everything is as it must be; one effect was sent twice, which is allowed."""
    executions = {
        id: Execution(
            id=id,
            status="completed",
            result={"words": len(id), "document": id},
            started=10 * n + 1,
            started_at=0.9,
            ended=10 * n + 9,
            ended_at=3.9,
            effects=(f"key-{id}",),
        )
        for n, id in enumerate(IDS)
    }
    effects = [Effect("acme", id, f"key-{id}", {"document": id}, 5.0) for id in IDS]
    return TenantFacts(
        tenant="acme",
        durability="before_effects",
        expected={id: _expectation(id) for id in IDS},
        acknowledged=tuple(
            Acknowledgement(id, True, Bookmark(epoch=1, sequence=10 * n + 1), 1.0)
            for n, id in enumerate(IDS)
        ),
        completions=(
            Completion(
                "doc-a",
                True,
                Bookmark(epoch=1, sequence=9),
                "completed",
                {"document": "doc-a", "words": 5},
                4.0,
            ),
        ),
        executions=executions,
        rows=tuple(_expectation(id).row for id in IDS),
        effects=(*effects, effects[0]),
    )


def _with_execution(facts: TenantFacts, id: str, **changes: object) -> TenantFacts:
    executions = dict(facts.executions)
    executions[id] = replace(executions[id], **changes)  # type: ignore[arg-type]
    return replace(facts, executions=executions)


def test_a_faithful_run_passes() -> None:
    verdict = judge(faithful())
    assert verdict.findings == ()
    assert verdict.ok
    assert verdict.completed == 3
    assert verdict.lost_acknowledged == 0
    assert verdict.duplicate_effects == 1


def _without_execution(facts: TenantFacts) -> TenantFacts:
    return replace(facts, executions={k: v for k, v in facts.executions.items() if k != "doc-b"})


def _another_effect(facts: TenantFacts, **changes: object) -> TenantFacts:
    effect = Effect("acme", "doc-a", "key-doc-a", {"document": "doc-a"}, 6.0)
    return replace(facts, effects=(*facts.effects, replace(effect, **changes)))  # type: ignore[arg-type]


BROKEN: dict[str, tuple[Callable[[TenantFacts], TenantFacts], str]] = {
    "a lost acknowledged start": (_without_execution, "lost_acknowledged_start"),
    "an execution that is gone": (_without_execution, "missing_execution"),
    "an acknowledged start that was lost and started again later": (
        lambda facts: _with_execution(facts, "doc-b", started_at=19.0),
        "lost_acknowledged_start",
    ),
    "an acknowledged start that is only found behind its bookmark": (
        lambda facts: _with_execution(facts, "doc-b", started=12),
        "lost_acknowledged_start",
    ),
    "an acknowledged result that was computed again later": (
        lambda facts: _with_execution(facts, "doc-a", ended=8, ended_at=25.0),
        "lost_acknowledged_result",
    ),
    "an acknowledged result that is another one now": (
        lambda facts: _with_execution(facts, "doc-a", result={"document": "doc-a", "words": 6}),
        "lost_acknowledged_result",
    ),
    "a wrong result": (
        lambda facts: _with_execution(facts, "doc-c", result={"document": "doc-c", "words": 7}),
        "wrong_result",
    ),
    "an execution that still runs": (
        lambda facts: _with_execution(facts, "doc-c", status="running", ended=None),
        "unfinished_execution",
    ),
    "an execution that failed": (
        lambda facts: _with_execution(facts, "doc-c", status="failed"),
        "unfinished_execution",
    ),
    "an execution that nobody started": (
        lambda facts: replace(
            facts,
            executions={
                **facts.executions,
                "doc-x": replace(facts.executions["doc-a"], id="doc-x", effects=()),
            },
        ),
        "unknown_execution",
    ),
    "an effect without a log record": (
        lambda facts: _another_effect(facts, key="key-of-nobody"),
        "effect_without_record",
    ),
    "an effect done again under another key": (
        lambda facts: _another_effect(
            _with_execution(facts, "doc-a", effects=("key-doc-a", "key-2")), key="key-2"
        ),
        "repeated_effect",
    ),
    "a key that was used for another execution": (
        lambda facts: _another_effect(facts, execution="doc-b"),
        "misattributed_effect",
    ),
    "one key with two contents": (
        lambda facts: _another_effect(facts, body={"document": "other"}),
        "changed_effect",
    ),
    "a logged effect that the receiver never saw": (
        lambda facts: replace(
            facts, effects=tuple(e for e in facts.effects if e.key != "key-doc-b")
        ),
        "record_without_effect",
    ),
    "an effect that is missing on both sides": (
        lambda facts: replace(
            _with_execution(facts, "doc-b", effects=()),
            effects=tuple(e for e in facts.effects if e.key != "key-doc-b"),
        ),
        "missing_effect",
    ),
    "an effect with the wrong content": (
        lambda facts: replace(
            facts,
            effects=tuple(
                replace(e, body={"document": "?"}) if e.key == "key-doc-b" else e
                for e in facts.effects
            ),
        ),
        "wrong_effect",
    ),
    "a missing table row": (lambda facts: replace(facts, rows=facts.rows[1:]), "missing_row"),
    "a changed row": (
        lambda facts: replace(
            facts, rows=({"document": "doc-a", "summary": "changed"}, *facts.rows[1:])
        ),
        "surplus_row",
    ),
    "a row written twice": (
        lambda facts: replace(facts, rows=(*facts.rows, facts.rows[0])),
        "surplus_row",
    ),
}


@pytest.mark.parametrize(("breaking", "kind"), BROKEN.values(), ids=BROKEN.keys())
def test_every_broken_twin_is_caught(
    breaking: Callable[[TenantFacts], TenantFacts], kind: str
) -> None:
    verdict = judge(breaking(faithful()))
    assert kind in {finding.kind for finding in verdict.findings}
    assert not verdict.ok


def test_a_lost_start_counts_as_acknowledged_only_when_it_was_durable() -> None:
    assert judge(_without_execution(faithful())).lost_acknowledged == 1


def test_an_unproven_start_may_be_lost_and_started_again() -> None:
    facts = faithful()
    unproven = Acknowledgement("doc-b", False, Bookmark(epoch=1, sequence=11), 1.0)
    again = Acknowledgement("doc-b", True, Bookmark(epoch=2, sequence=14), 19.0)
    facts = replace(
        _with_execution(facts, "doc-b", started=14, started_at=18.9),
        acknowledged=(facts.acknowledged[0], unproven, again, facts.acknowledged[2]),
    )
    verdict = judge(facts)
    assert verdict.ok
    assert verdict.lost_unproven == 1
    assert verdict.lost_acknowledged == 0


def test_a_tenant_without_any_expectation_passes_only_when_it_is_empty() -> None:
    assert judge(TenantFacts("acme", "async", {})).ok
    assert not judge(replace(faithful(), expected={})).ok


def test_canonical_ignores_the_order_of_keys_and_nothing_else() -> None:
    assert canonical({"a": 1, "b": [1, 2]}) == canonical({"b": [1, 2], "a": 1})
    assert canonical([1, 2]) != canonical([2, 1])
    assert canonical("1") != canonical(1)


def _event(sequence: int, step: str, at: float, kind: str = "completed") -> Event:
    return Event(sequence, "doc-a", kind, step, 0, at)


def test_loss_is_counted_by_what_the_events_are_about() -> None:
    on_host = (_event(1, "read", 10.0), _event(2, "report", 12.5), _event(3, "store", 13.0))
    loss = count_loss(LostLog("acme", "async", 14.0, on_host, on_host[:1]))
    assert loss.lost_steps == 2
    assert loss.rpo_seconds == 1.5
    assert loss.by_kind == {"completed": 2}


def test_the_restored_part_ends_where_the_logs_part() -> None:
    on_host = (_event(1, "read", 10.0), _event(2, "report", 12.5), _event(3, "store", 13.0))
    done_again = (_event(1, "read", 10.0), _event(2, "report", 30.0), _event(3, "store", 13.0))
    assert restored_part(on_host, done_again) == on_host[:1]
    assert restored_part(on_host, (*on_host, _event(4, "more", 40.0))) == on_host
    assert restored_part(on_host, ()) == ()


def test_nothing_lost_is_zero_seconds() -> None:
    on_host = (_event(1, "read", 10.0),)
    loss = count_loss(LostLog("acme", "async", 14.0, on_host, on_host))
    assert (loss.lost_steps, loss.rpo_seconds) == (0, 0.0)


def test_an_event_that_occurs_twice_on_the_host_and_once_in_the_restore_is_one_loss() -> None:
    event = _event(1, "read", 10.0)
    twice = (event, replace(event, sequence=2))
    assert count_loss(LostLog("acme", "async", 14.0, twice, (event,))).lost_steps == 1


MOVED = Owner(epoch=2, host="host-2", incarnation="new.1", state="active")


def test_an_owner_that_stands_is_no_finding() -> None:
    assert usurped("acme", MOVED, MOVED, zombie="old") is None
    onward = Owner(epoch=3, host="host-3", incarnation="third.1", state="active")
    assert usurped("acme", MOVED, onward, zombie="old") is None


@pytest.mark.parametrize(
    "after",
    [
        Owner(epoch=3, host="host-1", incarnation="old.7", state="active"),
        Owner(epoch=1, host="host-1", incarnation="back.1", state="active"),
        Owner(epoch=2, host="host-1", incarnation="new.2", state="active"),
    ],
    ids=["the zombie itself", "an older epoch", "the same epoch in other hands"],
)
def test_a_usurper_is_caught(after: Owner) -> None:
    assert usurped("acme", MOVED, after, zombie="old") is not None
