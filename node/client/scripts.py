"""Conversations with an engine, as generators: each yields a call and is sent its answer.

What takes more than one request is written here once; the clients carry it out, one by waiting
and one by awaiting (`carry_out`, `carry_out_async`).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar
from uuid import uuid4

from pydantic import BaseModel

from node.api_models import (
    Ack,
    EventShown,
    EventsQuery,
    ExecutionShown,
    Failure,
    Outcome,
    StreamItem,
    StreamQuery,
    WaitingQuery,
    WaitingShown,
)
from node.api_models_finding import BulkItem, BulkRequest, ListQuery
from node.api_models_retention import Pruned, PruneRequest
from node.client import calls
from node.client.calls import Call
from node.client.errors import ENDED_AS, NotOver
from node.engine.events import Status

T = TypeVar("T")
Q = TypeVar("Q", bound=BaseModel)
Clock = Callable[[], float]
#: Seconds for which the engine is asked to hold a request at once: well below what a proxy
#: between them would cut off.
HOLD: Final = 20.0
#: Seconds for which one request to prune removes, or a little longer.
PIECE: Final = 3.0


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """A value for who iterates over a series."""

    value: T


#: Ends with a value.
Script = Generator[Call[Any], Any, T]
#: Yields values between its calls.
Series = Generator[Call[Any] | Found[T], Any, None]


def outcome(
    id: str, wait: float | None, ack: Ack, clock: Clock = time.monotonic
) -> Script[Outcome]:
    """How an execution stands once it is over, or after `wait` seconds; None waits for ever."""
    until = None if wait is None else clock() + wait
    while True:
        left = HOLD if until is None else max(0.0, until - clock())
        found: Outcome = yield calls.result(id, min(HOLD, left), ack)
        over = found.status is Status.COMPLETED or found.status in ENDED_AS
        if over or (until is not None and clock() >= until):
            return found


def result(
    id: str,
    wait: float | None,
    ack: Ack,
    decode: Callable[[Any], T],
    clock: Clock = time.monotonic,
) -> Script[T]:
    """An execution's result. Raises ExecutionFailed (or one of its kinds), NotOver."""
    found = yield from outcome(id, wait, ack, clock)
    if found.status is Status.COMPLETED:
        return decode(found.result)
    kind = ENDED_AS.get(found.status)
    if kind is None:
        raise NotOver(id, found.status, wait or 0.0)
    raise kind(id, found.status, found.error or Failure(type=found.status.value.capitalize()))


def executions(query: ListQuery, limit: int | None) -> Series[ExecutionShown]:
    """Every execution that the query finds, or the first `limit`, however many pages it takes."""
    return _paged(calls.page, query, limit)


def bulk(request: BulkRequest) -> Series[BulkItem]:
    """Batch after batch, to the last."""
    if request.action == "signal" and request.key is None:
        request = request.model_copy(update={"key": uuid4().hex})
    while True:
        batch = yield calls.bulk(request)
        yield from map(Found, batch.items)
        if batch.next is None:
            return
        request = request.model_copy(update={"after": batch.next})


def waiting(query: WaitingQuery, limit: int | None) -> Series[WaitingShown]:
    """Every open execution that is found with what it waits for, or the first `limit`."""
    return _paged(calls.all_waiting, query, limit, int)


def prune(dry_run: bool, ack: Ack) -> Series[Pruned]:
    """Remove all that is due, a piece at a time."""
    while True:
        done = yield calls.prune(PruneRequest(dry_run=dry_run, seconds=PIECE, ack=ack))
        yield Found(done)
        due = done.left is not None and (done.left.executions or done.left.histories)
        if done.trouble or not due or not done.batches:
            return


def events(id: str, after: int = 0) -> Series[EventShown]:
    """An execution's part of the log."""
    query = EventsQuery(after=after)
    return _paged(lambda one: calls.events(id, one.after), query, place=int)


def _paged(
    ask: Callable[[Q], Call[Any]],
    query: Q,
    limit: int | None = None,
    place: Callable[[str], Any] = str,
) -> Series[Any]:
    """The items of page after page, to the last or the first `limit`. `place` makes of the `next`
    of a page what the query takes."""
    given = 0
    while True:
        page = yield ask(query)
        for item in page.items:
            if given == limit:
                return
            given += 1
            yield Found(item)
        if page.next is None:
            return
        query = query.model_copy(update={"after": place(page.next)})


def follow(id: str, name: str, offset: int, ack: Ack) -> Series[StreamItem]:
    """The values of a stream as they come, to its end."""
    while True:
        query = StreamQuery(offset=offset, wait=HOLD, ack=ack)
        page = yield calls.stream(id, name, query)
        yield from map(Found, page.items)
        if page.ended:
            return
        offset = page.next


# Carrying them out ------------------------------------------------------------------------------


def carry_out(script: Script[T], send: Callable[[Call[Any]], Any]) -> T:
    """Hold a conversation by waiting for each answer."""
    try:
        call = next(script)
        while True:
            call = script.send(send(call))
    except StopIteration as end:
        value: T = end.value
        return value


async def carry_out_async(script: Script[T], send: Callable[[Call[Any]], Awaitable[Any]]) -> T:
    """Hold a conversation by awaiting each answer."""
    try:
        call = next(script)
        while True:
            call = script.send(await send(call))
    except StopIteration as end:
        value: T = end.value
        return value


def iterate(series: Series[T], send: Callable[[Call[Any]], Any]) -> Iterator[T]:
    """The values of a series, asked for as they are wanted."""
    answer: Any = None
    while True:
        try:
            step = series.send(answer)
        except StopIteration:
            return
        if isinstance(step, Found):
            yield step.value
            answer = None
        else:
            answer = send(step)


async def iterate_async(
    series: Series[T], send: Callable[[Call[Any]], Awaitable[Any]]
) -> AsyncIterator[T]:
    """The values of a series, asked for as they are wanted."""
    answer: Any = None
    while True:
        try:
            step = series.send(answer)
        except StopIteration:
            return
        if isinstance(step, Found):
            yield step.value
            answer = None
        else:
            answer = await send(step)
