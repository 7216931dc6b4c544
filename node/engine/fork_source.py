"""The execution that another one is made from, and where what stands of it ends."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from node.engine.errors import ActivityFailed, ChildFailed, ForkRefused
from node.engine.events import (
    CLOSING,
    DELIVERIES,
    GIVEN_UP,
    INTENTS,
    NOTES,
    OUTCOMES,
    Event,
    Kind,
)
from node.engine.forked import ForkedFrom, ForkMode, Identity, Kept, Supply, forked_of
from node.engine.live import Origin
from node.engine.queue_ticket import Ticket, queue_of
from node.engine.steps import Step


@dataclass(frozen=True, slots=True)
class Source:
    """The execution that is forked. `history` is what stands since it last began, with the times
    at which its code was told."""

    identity: Identity
    history: Sequence[Event]
    foreign: bool = False
    """It is of another log."""
    digest: str | None = None

    @property
    def first(self) -> Event:
        """The event with which its history begins."""
        return self.history[0]

    @property
    def workflow(self) -> str:
        """Its workflow's name."""
        return self.first.name

    @property
    def closed(self) -> Event | None:
        """Its end, if it has one."""
        return self.history[-1] if self.history[-1].kind in CLOSING else None

    @property
    def kept(self) -> Kept:
        """What it has itself from another execution, and has not come to yet: a fork's."""
        kept = Kept.of(self.history)
        if kept is None:
            return Kept()
        return replace(kept, results=tuple(Supply(kept.results, self.history).left()))

    @property
    def schedule(self) -> tuple[str, int] | None:
        """What began it, if that was a schedule."""
        forked = forked_of(self.first)
        before = None if forked is None else forked.schedule
        return before or Origin.of(self.history).schedule

    @property
    def ticket(self) -> Ticket | None:
        """Where its fork waits for a turn. Its deduplication key stays its own."""
        ticket = queue_of(self.history)
        return None if ticket is None else replace(ticket, dedup=None)

    def origin(self, mode: ForkMode, sequence: int) -> ForkedFrom:
        """What a fork's log says of it."""
        who = self.identity
        tenant, lineage = (who.tenant, who.lineage) if self.foreign else (None, None)
        return ForkedFrom(who.execution, mode, sequence, tenant, lineage, self.digest)


@dataclass(frozen=True, slots=True)
class Cut:
    """Where the past ends: everything before `sequence` stands. `step` is to be run again."""

    sequence: int
    step: Step | None = None


def cut_at(source: Source, at: str | int | None) -> Cut:
    """Where the past ends that a fork `at` a step, an event or (None) where it stands has.

    Raises ForkRefused.
    """
    history = source.history
    last = history[-1]
    if at is None:
        if last.kind is Kind.COMPLETED:
            raise ForkRefused(
                f"execution {source.identity.execution!r} completed, and it is not said where"
                " the fork goes on",
                hint=f"Name a step: {_known(history)}; or reuse its results.",
            )
        if source.closed is None:
            return Cut(last.sequence + 1)
        sequence = failed_at(history)
        failed = next(event for event in history if event.sequence == sequence)
        return Cut(sequence, _step(failed) if failed.kind in OUTCOMES else None)
    if isinstance(at, int):
        found = [event for event in history if event.sequence == at]
        if not found:
            raise ForkRefused(
                f"event {at} is not among those that stand since it last began:"
                f" {source.first.sequence} to {last.sequence}",
                hint="Choose one that GET /executions/{id}/events shows.",
            )
        event = found[0]
        if event.kind in INTENTS | OUTCOMES | NOTES | GIVEN_UP:
            return _cut_step(history, _step(event))
        told = DELIVERIES | CLOSING | {Kind.DEQUEUED}
        rest = (one.sequence for one in history if one.sequence >= at and one.kind in told)
        return Cut(at if event is source.first else next(rest, last.sequence + 1))
    name, _, number = at.partition("#")
    calls = [event for event in history if event.kind in INTENTS and event.name == name]
    if number:
        calls = [event for event in calls if str(event.occurrence) == number]
    if not calls:
        raise ForkRefused(
            f"it has no step {at!r} since it last began", hint=f"There are: {_known(history)}."
        )
    return _cut_step(history, _step(calls[0]))


def _cut_step(history: Sequence[Event], step: Step) -> Cut:
    for number, event in enumerate(history):
        if event.kind in OUTCOMES and _step(event) == step:
            return Cut(event.sequence, step)
        if event.kind in GIVEN_UP and _step(event) == step:
            told = [one for one in history[:number] if one.kind in DELIVERIES]
            called = next(one for one in history if one.kind in INTENTS and _step(one) == step)
            if told and told[-1].sequence > called.sequence:
                return Cut(told[-1].sequence, step)
            raise ForkRefused(
                f"the code gave up on {_words(step)} in the turn that called it",
                hint="Fork at a step before it.",
            )
    return Cut(history[-1].sequence + 1, step)


def failed_at(history: Sequence[Event]) -> int:
    """The first event that is void when an execution that did not complete is tried again."""
    last = history[-1]
    if last.kind is Kind.CANCELLED:
        return next(event.sequence for event in history if event.kind is Kind.CANCEL)
    if last.kind is Kind.FAILED:
        failure = json.loads(str(last.payload))
        failed = [event for event in history if event.kind in (Kind.STEP_FAILED, Kind.CHILD_FAILED)]
        grouped = failure["type"].endswith("ExceptionGroup")
        for event in reversed(failed):
            if grouped or _message(event) == failure["message"]:
                return event.sequence
    return last.sequence


def _message(event: Event) -> str:
    body = json.loads(str(event.payload))
    if event.kind is Kind.CHILD_FAILED:
        return str(ChildFailed(workflow=event.name, **body))
    return str(ActivityFailed(step=event.name, occurrence=event.occurrence, **body))


def _step(event: Event) -> Step:
    return event.name, event.occurrence


def _words(step: Step) -> str:
    return f"{step[0]}#{step[1]}"


def _known(history: Iterable[Event]) -> str:
    steps = [_words(_step(event)) for event in history if event.kind in INTENTS]
    return ", ".join(steps[:20]) + (", …" if len(steps) > 20 else "") or "none"
