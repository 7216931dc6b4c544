"""The spans that a log tells of: one for each execution once it has ended, one for each attempt.

A pure function of the log's events in their order, so that no replay, crash or move can make a span
twice, or another one of it.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from node.engine.beginning import standing
from node.engine.events import CLOSED_STATUS, CLOSING, RESERVED, Event, Kind, traced
from node.engine.steps import Step
from node.trace_ids import Born, Identities, Identity, grown

#: What happened to an execution that its span tells; more is only counted.
MOST_NOTES: Final = 128
#: Open executions of which what was read is kept; the others are read again.
MOST_KEPT: Final = 2048

Attributes = dict[str, str | int | bool]


@dataclass(frozen=True, slots=True)
class Note:
    """Something that happened within a span; unix milliseconds."""

    name: str
    at: int
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class Span:
    """A span that is over; times in unix milliseconds. `links` are `traceparent`s; `error` is a
    type and a message."""

    name: str
    identity: Identity
    """Of the execution; an attempt's parent."""
    span: int
    parent: int | None
    began_at: int
    ended_at: int
    attributes: Attributes
    notes: tuple[Note, ...] = ()
    links: tuple[str, ...] = ()
    error: tuple[str, str] | None = None


@dataclass(slots=True)
class _Step:
    """A step without an outcome, and its attempt that runs or comes next."""

    began_at: int
    attempt: int = 1


@dataclass(slots=True)
class _State:
    born: Born
    began_at: int
    steps: dict[Step, _Step] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    dropped: int = 0
    links: list[str] = field(default_factory=list)


_NOTED: Final = {
    Kind.TIMER: "timer",
    Kind.TIMER_FIRED: "timer fired",
    Kind.SIGNAL: "signal",
    Kind.UPDATE: "update",
    Kind.UPDATE_COMPLETED: "update completed",
    Kind.UPDATE_FAILED: "update failed",
    Kind.CANCEL: "cancel requested",
    Kind.PAUSED: "paused",
    Kind.RESUMED: "resumed",
    Kind.DEQUEUED: "dequeued",
    Kind.CHILD: "child",
    Kind.CHILD_COMPLETED: "child completed",
    Kind.CHILD_FAILED: "child failed",
    Kind.CHILD_CANCELLED: "child cancelled",
    Kind.EXTERNAL: "external event awaited",
    Kind.EXTERNAL_COMPLETED: "external event completed",
    Kind.EXTERNAL_CANCELLED: "external event given up",
}
_ENDS: Final = {
    Kind.STEP_COMPLETED: "completed",
    Kind.STEP_FAILED: "failed",
    Kind.STEP_RETRY: "retried",
    Kind.STEP_CANCELLED: "cancelled",
}


class Spans:
    """Fed with the log's events in their order. `history` gives the whole of one execution's."""

    def __init__(self, lineage: str, history: Callable[[str], list[Event]]) -> None:
        self.identities = Identities(lineage, history, self._born)
        self.began: dict[int, int] = {}
        """When attempts began by those who saw it, by the id of their span; the log knows only
        when they could have."""
        self._history = history
        self._states: OrderedDict[str, _State] = OrderedDict()

    def _born(self, id: str) -> Born | None:
        state = self._states.get(id)
        return None if state is None else state.born

    def feed(self, event: Event) -> list[Span]:
        """The spans that end with this event."""
        state = self._states.get(event.execution)
        if state is None and event.kind not in (Kind.STARTED, Kind.RESTARTED):
            state = self._read(event)
            if state is None:
                return []
        if state is not None:
            self._states.move_to_end(event.execution)
        return self._apply(state, event)

    def _read(self, event: Event) -> _State | None:
        """What was fed before, by another life or too long ago."""
        for earlier in self._history(event.execution):
            if earlier.sequence < event.sequence:
                self._apply(self._states.get(event.execution), earlier, silent=True)
        return self._states.get(event.execution)

    def _apply(self, state: _State | None, event: Event, *, silent: bool = False) -> list[Span]:
        kind = event.kind
        if kind in (Kind.STARTED, Kind.RESTARTED):
            born = grown(None, event)
            assert born is not None
            self._states[event.execution] = _State(born, event.at)
            if len(self._states) > MOST_KEPT:
                self._states.popitem(last=False)
            return []
        if state is None:
            return []
        spans: list[Span] = []
        if kind in _ENDS:
            spans = self._attempt(state, event)
        elif kind in CLOSING or kind is Kind.CONTINUED:
            spans = self._execution(state, event)
            if not silent and kind in CLOSING:
                del self._states[event.execution]
        elif kind is Kind.STEP:
            state.steps[event.name, event.occurrence] = _Step(event.at)
        elif kind in _NOTED:
            self._note(state, event)
        if kind in (Kind.CONTINUED, Kind.REOPENED):
            born = grown(state.born, event)
            assert born is not None
            fresh = _State(born, event.at, links=[_link(self.identities.of(state.born))])
            if kind is Kind.REOPENED:
                fresh.steps = self._left(event)
            self._states[event.execution] = fresh
        elif kind is Kind.ORIGIN and state.born.parent is None and state.born.trace is None:
            born = grown(state.born, event)
            assert born is not None
            state.born = born
        # Nobody asks for the spans of what was fed before.
        return [] if silent or state.born.workflow.startswith(RESERVED) else spans

    def _left(self, event: Event) -> dict[Step, _Step]:
        """The steps that go on when an execution is opened again."""
        steps: dict[Step, _Step] = {}
        until = [e for e in self._history(event.execution) if e.sequence <= event.sequence]
        for earlier in standing(until):
            step = earlier.name, earlier.occurrence
            if earlier.kind is Kind.STEP:
                steps[step] = _Step(event.at)
            elif earlier.kind is Kind.STEP_RETRY and step in steps:
                body = json.loads(str(earlier.payload))
                steps[step] = _Step(max(event.at, body["next"]), body["attempt"] + 1)
            elif earlier.kind in _ENDS:
                steps.pop(step, None)
        return steps

    def _note(self, state: _State, event: Event) -> None:
        if event.kind in (Kind.SIGNAL, Kind.UPDATE):
            trace = traced(event.payload)
            if trace is not None and len(state.links) < MOST_NOTES:
                state.links.append(trace)
        if len(state.notes) >= MOST_NOTES:
            state.dropped += 1
            return
        about: Attributes = {}
        if event.kind not in (Kind.TIMER, Kind.TIMER_FIRED):
            about["litefleet.name"] = event.name
        about["litefleet.occurrence"] = event.occurrence
        if event.kind is Kind.CHILD:
            about["litefleet.child"] = str(json.loads(str(event.payload))["id"])
        elif event.kind is Kind.TIMER:
            about["litefleet.deadline_ms"] = int(str(event.payload))
        state.notes.append(Note(_NOTED[event.kind], event.at, about))

    def _attempt(self, state: _State, event: Event) -> list[Span]:
        step = event.name, event.occurrence
        known = state.steps.get(step)
        if known is None:
            return []
        body: Any = None
        if event.kind in (Kind.STEP_RETRY, Kind.STEP_FAILED):
            body = json.loads(str(event.payload))
        spans = self._ended(state, step, known, event.at, _ENDS[event.kind], body)
        if event.kind is Kind.STEP_RETRY:
            known.attempt, known.began_at = body["attempt"] + 1, max(event.at, body["next"])
        else:
            del state.steps[step]
        return spans

    def _ended(
        self, state: _State, step: Step, known: _Step, at: int, outcome: str, body: Any
    ) -> list[Span]:
        identity = self.identities.of(state.born)
        span = identity.attempt(*step, known.attempt)
        began = self.began.pop(span, None)
        if began is None and known.began_at > at:
            # It waited for its next attempt.
            return []
        attributes = _about(state.born) | {
            "litefleet.step": step[0],
            "litefleet.occurrence": step[1],
            "litefleet.attempt": known.attempt,
            "litefleet.outcome": outcome,
        }
        error = None if body is None else (str(body["type"]), str(body["message"]))
        began_at = min(at, known.began_at if began is None else began)
        return [Span(step[0], identity, span, identity.span, began_at, at, attributes, error=error)]

    def _execution(self, state: _State, event: Event) -> list[Span]:
        spans: list[Span] = []
        for step, known in state.steps.items():
            # Its attempt ran into the end of the execution.
            spans += self._ended(state, step, known, event.at, "abandoned", None)
        state.steps.clear()
        born, identity = state.born, self.identities.of(state.born)
        closed = CLOSED_STATUS.get(event.kind)
        attributes = _about(born) | {"litefleet.outcome": closed.value if closed else "continued"}
        if state.dropped:
            attributes["litefleet.dropped_events"] = state.dropped
        error: tuple[str, str] | None = None
        if event.kind is Kind.FAILED:
            body = json.loads(str(event.payload))
            error = str(body["type"]), str(body["message"])
        span = Span(
            born.workflow,
            identity,
            identity.span,
            identity.parent,
            state.began_at,
            event.at,
            attributes,
            tuple(state.notes),
            tuple(state.links),
            error,
        )
        return [*spans, span]


def _about(born: Born) -> Attributes:
    return {
        "litefleet.execution": born.id,
        "litefleet.workflow": born.workflow,
        "litefleet.run": born.run,
    }


def _link(identity: Identity) -> str:
    return f"00-{identity.trace:032x}-{identity.span:016x}-01"
