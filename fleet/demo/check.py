"""The judge: compares what must be with what every witness saw. Pure, over plain data."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from fleet.demo.facts import (
    Acknowledgement,
    Completion,
    Effect,
    Event,
    Execution,
    LostLog,
    TenantFacts,
)

CLOCK_SLACK = 1.0
"""Seconds by which the clocks of a host and of the client may differ; a repeat after a lost host
comes many seconds later."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it must be."""

    kind: str
    tenant: str
    execution: str | None
    text: str

    def __str__(self) -> str:
        return f"{self.tenant}: {self.text}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of the comparison of one tenant."""

    tenant: str
    findings: tuple[Finding, ...]
    completed: int
    lost_acknowledged: int
    """Starts and results acknowledged as durable that the final log does not hold."""
    lost_unproven: int
    """Starts acknowledged as *not* durable that a loss took back; the client started them again."""
    duplicate_effects: int
    """Requests at the receiver beyond the first for their idempotency key."""

    @property
    def ok(self) -> bool:
        return not self.findings


@dataclass(frozen=True, slots=True)
class Loss:
    """What one tenant lost with its host: commits on the host that the restore does not have."""

    tenant: str
    lost_steps: int
    rpo_seconds: float
    """From the oldest lost commit to the loss; 0 when nothing is lost."""
    by_kind: dict[str, int] = field(default_factory=dict)


def canonical(value: Any) -> str:
    """A JSON value as text that is equal exactly when the values are equal."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def judge(facts: TenantFacts) -> Verdict:
    """Compare one tenant's expectations with its log, its table and the receiver's ledger."""
    lost = list(_lost_acknowledgements(facts))
    findings = [
        *_check_executions(facts),
        *lost,
        *_check_effects(facts),
        *_check_rows(facts),
    ]
    completed = sum(
        1
        for id in facts.expected
        if (execution := facts.executions.get(id)) and execution.status == "completed"
    )
    keys = Counter(effect.key for effect in facts.effects)
    return Verdict(
        tenant=facts.tenant,
        findings=tuple(findings),
        completed=completed,
        lost_acknowledged=len(lost),
        lost_unproven=len({ack.execution for ack in _revoked(facts) if not ack.durable}),
        duplicate_effects=sum(count - 1 for count in keys.values()),
    )


def _check_executions(facts: TenantFacts) -> Iterator[Finding]:
    def finding(kind: str, id: str, text: str) -> Finding:
        return Finding(kind, facts.tenant, id, text)

    for id, expectation in facts.expected.items():
        execution = facts.executions.get(id)
        if execution is None:
            yield finding("missing_execution", id, f"{id} is not in the restored log")
        elif execution.status != "completed":
            yield finding("unfinished_execution", id, f"{id} is {execution.status}, not completed")
        elif canonical(execution.result) != canonical(expectation.result):
            yield finding("wrong_result", id, f"{id} has another result than its document gives")
    for id in facts.executions.keys() - facts.expected.keys():
        yield finding("unknown_execution", id, f"{id} is in the log, but nobody started it")


def _holds(execution: Execution | None, ack: Acknowledgement | Completion, *, ended: bool) -> bool:
    """Whether the log still holds what was acknowledged, at the place that was named.

    An execution that was lost and started again later is found under the same id,
    but it was committed after the acknowledgement, or stands behind its bookmark:
    that does not count as held.
    """
    if execution is None:
        return False
    sequence = execution.ended if ended else execution.started
    at = execution.ended_at if ended else execution.started_at
    if sequence is None or at is None:
        return False
    return sequence <= ack.bookmark.sequence and at <= ack.at + CLOCK_SLACK


def _revoked(facts: TenantFacts) -> Iterator[Acknowledgement]:
    for ack in facts.acknowledged:
        if not _holds(facts.executions.get(ack.execution), ack, ended=False):
            yield ack


def _lost_acknowledgements(facts: TenantFacts) -> Iterator[Finding]:
    for ack in _revoked(facts):
        if ack.durable:
            yield Finding(
                "lost_acknowledged_start",
                facts.tenant,
                ack.execution,
                f"the start of {ack.execution} was acknowledged as durable at {ack.bookmark} "
                "and is not in the log at that point",
            )
    for completion in facts.completions:
        if not completion.durable:
            continue
        execution = facts.executions.get(completion.execution)
        same = (
            execution is not None
            and execution.status == completion.status
            and canonical(execution.result) == canonical(completion.result)
        )
        if not same or not _holds(execution, completion, ended=True):
            yield Finding(
                "lost_acknowledged_result",
                facts.tenant,
                completion.execution,
                f"the result of {completion.execution} was acknowledged as durable at "
                f"{completion.bookmark} and is not in the log at that point",
            )


def _check_effects(facts: TenantFacts) -> Iterator[Finding]:
    def finding(kind: str, id: str | None, text: str) -> Finding:
        return Finding(kind, facts.tenant, id, text)

    seen: dict[str, list[Effect]] = defaultdict(list)
    for effect in facts.effects:
        seen[effect.key].append(effect)
    logged = {
        key: execution.id for execution in facts.executions.values() for key in execution.effects
    }
    for key, effects in seen.items():
        owner = logged.get(key)
        id = effects[0].execution
        if owner is None:
            yield finding(
                "effect_without_record", id, f"the receiver saw {key} of {id}; the log does not"
            )
        elif any(effect.execution != owner for effect in effects):
            yield finding("misattributed_effect", id, f"{key} belongs to {owner}, not to {id}")
        if len({canonical(effect.body) for effect in effects}) > 1:
            yield finding("changed_effect", id, f"{key} reached the receiver with two contents")
    for key, id in logged.items():
        if key not in seen:
            yield finding(
                "record_without_effect", id, f"the log of {id} has {key}; the receiver never saw it"
            )
    by_execution: dict[str, set[str]] = defaultdict(set)
    for effect in facts.effects:
        by_execution[effect.execution].add(effect.key)
    for id, expectation in facts.expected.items():
        keys = by_execution.get(id, set())
        if not keys:
            yield finding("missing_effect", id, f"the receiver has nothing of {id}")
        elif len(keys) > 1:
            yield finding("repeated_effect", id, f"{id} reached the receiver with {len(keys)} keys")
        elif any(
            canonical(effect.body) != canonical(expectation.effect)
            for key in keys
            for effect in seen[key]
        ):
            yield finding("wrong_effect", id, f"{id} reported something else than it should")


def _check_rows(facts: TenantFacts) -> Iterator[Finding]:
    found = Counter(canonical(row) for row in facts.rows)
    wanted = Counter(canonical(expectation.row) for expectation in facts.expected.values())
    for id, expectation in facts.expected.items():
        if found[canonical(expectation.row)] == 0:
            yield Finding(
                "missing_row", facts.tenant, id, f"the table lacks the row of {id}, or has another"
            )
    surplus = found - wanted
    for text, count in surplus.items():
        shown = text if len(text) <= 120 else text[:117] + "..."
        yield Finding(
            "surplus_row", facts.tenant, None, f"the table has {count} row too many: {shown}"
        )


def restored_part(on_host: Sequence[Event], final: Sequence[Event]) -> tuple[Event, ...]:
    """The events that a restore brought back: how far the final log is the lost host's own.

    A log only grows, so the restored part is what both begin with. An event that was
    done again after the takeover has another commit time, even where it is the same step.
    """
    theirs = {event.sequence: event for event in final}
    kept = []
    for event in sorted(on_host, key=lambda event: event.sequence):
        if theirs.get(event.sequence) != event:
            break
        kept.append(event)
    return tuple(kept)


def count_loss(log: LostLog) -> Loss:
    """What of the lost host's log is not in the restored one, by what the events are about."""
    restored = Counter(event.identity for event in log.restored)
    lost = []
    for event in sorted(log.on_host, key=lambda event: event.sequence):
        if restored[event.identity] > 0:
            restored[event.identity] -= 1
        else:
            lost.append(event)
    return Loss(
        tenant=log.tenant,
        lost_steps=len(lost),
        rpo_seconds=max(0.0, log.lost_at - min(event.at for event in lost)) if lost else 0.0,
        by_kind=dict(Counter(event.kind for event in lost)),
    )


@dataclass(frozen=True, slots=True)
class Owner:
    """Who a tenant's ownership record names; `incarnation` is `<the host's>.<the node's>`."""

    epoch: int
    host: str
    incarnation: str
    state: str


def usurped(tenant: str, before: Owner, after: Owner, zombie: str) -> Finding | None:
    """Whether a host that came back took the record of a tenant that had moved away.

    `before` was read when the takeover was complete, `after` when the zombie had
    stopped itself; `zombie` is the host's incarnation that had lost its authority.
    """
    if after.incarnation.partition(".")[0] == zombie:
        text = f"the returning incarnation {zombie} wrote itself into the ownership record"
    elif after.epoch < before.epoch:
        text = f"the ownership record went back from epoch {before.epoch} to {after.epoch}"
    elif after.epoch == before.epoch and after.incarnation != before.incarnation:
        text = f"epoch {after.epoch} changed hands without a new epoch"
    else:
        return None
    return Finding("usurped", tenant, None, text)
