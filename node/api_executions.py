"""The engine's HTTP API for executions: start them, and read what the log says about them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from starlette.requests import Request

from node.api_answers import Answers, Unproven, trace_of
from node.api_models import (
    EventPage,
    EventShown,
    EventsQuery,
    ExecutionDetail,
    ExecutionShown,
    Outcome,
    ResultQuery,
    Started,
    StartRequest,
)
from node.api_models_finding import Count, CountQuery, Counts, ExecutionPage, Filter, ListQuery
from node.api_route import Routes, operation
from node.engine.engine import Engine
from node.engine.errors import (
    DuplicateRefused,
    ExecutionConflict,
    PayloadError,
    PayloadTooLarge,
    ReadersBusy,
    StatementTooSlow,
    UnknownExecution,
    UnknownQueue,
    UnknownWorkflow,
    VersionMissing,
)
from node.engine.events import CLOSED_STATUS, Event, Status
from node.engine.finding import Grouped
from node.engine.selection import Selection
from node.engine.views import ExecutionView

#: How an execution stands once it is over.
CLOSED: Final = frozenset(CLOSED_STATUS.values())
#: Why looking for executions can fail.
READ_ERRORS: Final = (PayloadError, StatementTooSlow, ReadersBusy)
#: Why a start can be refused.
START_ERRORS: Final = (
    VersionMissing,
    UnknownWorkflow,
    UnknownQueue,
    ExecutionConflict,
    DuplicateRefused,
    PayloadError,
    PayloadTooLarge,
)


class ExecutionsApi(Routes):
    """Routes for executions."""

    def __init__(self, engine: Engine, answers: Answers) -> None:
        self.engine = engine
        self.answers = answers

    @operation(
        "POST",
        "/executions",
        statuses=(201, 200),
        raises=START_ERRORS,
        proves=True,
        example={"workflow": "greet", "id": "ada", "input": {"name": "Ada"}},
    )
    async def start(self, body: StartRequest, request: Request) -> tuple[int, Started]:
        """Start an execution: 201, or 200 when one of that id, workflow and input exists."""
        self.answers.admit(body.ack, "a start")
        started = await self.engine.start(
            body.workflow,
            body.input,
            id=body.id,
            reuse=body.reuse,
            queue=body.queue,
            priority=body.priority,
            dedup=body.dedup,
            partition=body.partition,
            labels=body.labels,
            trace=trace_of(request),
            pinned=body.pinned,
        )
        view = started.view
        standing = await self.answers.proven(view.sequence, body.ack)
        answer = Started(id=view.id, workflow=view.workflow, status=view.status, **standing)
        return 201 if started.created else 200, answer

    @operation("GET", "/executions", raises=READ_ERRORS)
    async def list_executions(self, query: ListQuery) -> ExecutionPage:
        """Executions in the order of their first start, page by page; a page stays the same while
        others start. It can be shorter than `limit`, even empty, where looking took long: only
        `next` says whether there are more."""
        views, following = await self.engine.find(
            selection_of(query), order=query.order, after=query.after, limit=query.limit
        )
        items = [ExecutionShown(**self._summary(view)) for view in views]
        return ExecutionPage(items=items, next=following)

    @operation("GET", "/counts", raises=READ_ERRORS)
    async def count_executions(self, query: CountQuery) -> Counts:
        """How many executions there are, by status or workflow or both."""
        found = await self.engine.count(selection_of(query), query.by)
        items = [_count(one, query.by) for one in found]
        return Counts(items=items, total=sum(one.count for one in found))

    @operation("GET", "/executions/{id}", raises=(UnknownExecution,))
    async def show(self, id: str) -> ExecutionDetail:
        """One execution, with its input, and with its result or error once it is over."""
        view = self.engine.execution(id)
        return ExecutionDetail(**self._summary(view), input=view.input, **outcome_of(view))

    @operation("GET", "/executions/{id}/events", raises=(UnknownExecution,))
    async def events(self, id: str, query: EventsQuery) -> EventPage:
        """An execution's part of the log."""
        events = [event for event in self.engine.events(id) if event.sequence > query.after]
        page = events[: query.limit]
        following = str(page[-1].sequence) if len(events) > len(page) else None
        newest = page[-1].sequence if page else self.engine.sequence
        items = [_event(event) for event in page]
        return EventPage(items=items, next=following, **self.answers.standing(newest))

    @operation("GET", "/executions/{id}/result", raises=(UnknownExecution,), proves=True)
    async def result(self, id: str, query: ResultQuery) -> Outcome:
        """How an execution stands once it is over, or after `wait` seconds. `durable` is false
        if the proof did not come in time."""
        view = await self.engine.result(id, wait=query.wait)
        durable = False
        if view.status in CLOSED and query.ack == "durable" and self.engine.can_prove:
            try:
                await self.answers.prove(view.sequence)
                durable = True
            except Unproven as error:
                if not error.late:
                    raise
        standing = self.answers.standing(view.sequence, durable=durable)
        return Outcome(id=view.id, status=view.status, **outcome_of(view), **standing)

    def _summary(self, view: ExecutionView) -> dict[str, Any]:
        return {
            "id": view.id,
            "workflow": view.workflow,
            "status": view.status,
            "paused": view.paused,
            "version": view.version,
            "pinned": view.pinned,
            "runs_on": view.runs_on,
            "started_at": view.started_at,
            "closed_at": view.closed_at,
            "labels": dict(view.labels),
            "forked_from": view.forked_from,
            **self.answers.standing(view.sequence),
        }


def selection_of(asked: Filter) -> Selection:
    """A filter as the engine has it."""
    labels = (one.partition("=") for one in asked.label)
    return Selection(
        statuses=frozenset(asked.status),
        workflows=frozenset(asked.workflow),
        prefix=asked.id_prefix,
        labels=tuple((name, value) for name, _, value in labels),
        started_after=asked.started_after,
        started_before=asked.started_before,
        closed_after=asked.closed_after,
        closed_before=asked.closed_before,
        parent=asked.parent,
        queue=asked.queue,
        version=asked.version,
        failures=asked.failures,
    )


def _count(found: Grouped, by: Sequence[str]) -> Count:
    apart: dict[str, Any] = {"workflow": found.workflow, "status": found.status}
    return Count(count=found.count, **{key: apart[key] for key in by})


def outcome_of(view: ExecutionView) -> dict[str, Any]:
    """Its result or its error, as far as there is one."""
    if view.status is Status.COMPLETED:
        return {"result": view.result}
    return {} if view.error is None else {"error": view.error}


def _event(event: Event) -> EventShown:
    payload = event.payload
    return EventShown(
        sequence=event.sequence,
        at=event.at / 1000,
        kind=event.kind.name.lower(),
        step=event.name,
        occurrence=event.occurrence,
        payload=json.loads(payload) if isinstance(payload, str) else payload,
    )
