"""Running activities: one attempt at a time, each on its loop or thread, within its timeout."""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from time import perf_counter
from typing import Any, Final

from node.engine.context import ActivityInfo, current_activity
from node.engine.definition import Activity
from node.engine.errors import NonRetryable, PayloadError, describe
from node.engine.events import Kind, Payload
from node.engine.pulse import Pulse
from node.engine.writer import WriterTransaction

# Looking a member up in its enumeration takes 0.1 us, and there is one for each step.
_STEP_COMPLETED: Final = Kind.STEP_COMPLETED


@dataclass(slots=True)
class Outcome:
    """How an attempt ended: the event to log, and for a retry when to try again (unix ms)."""

    kind: Kind
    payload: Payload
    retry_at: int = 0
    took: float = 0.0
    """Seconds, without what it waited for."""


class Threads:
    """A bounded pool for plain functions. A function that outlives its attempt keeps its place."""

    def __init__(self, size: int) -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="activity")
        self._free = asyncio.Semaphore(size)

    @property
    def free(self) -> bool:
        """Whether there is a place."""
        return not self._free.locked()

    async def place(self) -> None:
        """Wait for a free thread; the next `run` takes it."""
        await self._free.acquire()

    def give_back(self) -> None:
        """Free the place without having run anything."""
        self._free.release()

    async def run(self, function: Callable[[], Any]) -> Any:
        """Run on the thread that `place` has waited for."""
        loop = asyncio.get_running_loop()
        try:
            future = self._pool.submit(contextvars.copy_context().run, function)
        except BaseException:
            self._free.release()
            raise
        future.add_done_callback(lambda _: self._ended(loop))
        return await asyncio.wrap_future(future)

    def _ended(self, loop: asyncio.AbstractEventLoop) -> None:
        with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
            loop.call_soon_threadsafe(self._free.release)

    def close(self) -> None:
        """Start nothing more. Functions that run are left to end by themselves."""
        self._pool.shutdown(wait=False, cancel_futures=True)


async def attempt(
    activity: Activity[Any, Any],
    payload: str,
    info: ActivityInfo,
    threads: Threads,
    may_start: Callable[[], bool],
    *,
    random: Random,
    now: Callable[[], int],
) -> Outcome | None:
    """Run one attempt; None when `may_start`, asked right before it, says no."""
    if not activity.is_async:
        await threads.place()
        if not may_start():
            threads.give_back()
            return None
    elif not may_start():
        return None
    current_activity.set(info)
    pulse = info.pulse
    began = perf_counter()
    try:
        if activity.timeout is None and activity.heartbeat_timeout is None:
            if activity.is_async:
                bound = activity.codec.arguments(payload)
                value = await activity.function(*bound.args, **bound.kwargs)
            else:
                value = await _call(activity, payload, threads)
        else:
            value = await _call_in_time(activity, payload, threads, pulse)
        result = activity.codec.result(value)
        return Outcome(_STEP_COMPLETED, result, took=perf_counter() - began)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            if pulse is not None:
                pulse.end(cancelled=True)
            raise
        outcome = failure(activity, info.attempt, error, random=random, now=now)
    except (Exception, SystemExit) as error:
        outcome = failure(activity, info.attempt, error, random=random, now=now)
    finally:
        if pulse is not None:
            pulse.end()
    outcome.took = perf_counter() - began
    return outcome


async def _call_in_time(
    activity: Activity[Any, Any], payload: str, threads: Threads, pulse: Pulse | None
) -> Any:
    # The timeout is the attempt's: waiting for a thread is over by now.
    async with asyncio.timeout(activity.timeout):
        if pulse is None or activity.heartbeat_timeout is None:
            return await _call(activity, payload, threads)
        async with asyncio.timeout(activity.heartbeat_timeout) as deadline:
            pulse.watch(deadline, activity.heartbeat_timeout)
            return await _call(activity, payload, threads)


async def _call(activity: Activity[Any, Any], payload: str, threads: Threads) -> Any:
    if activity.is_async:
        bound = activity.codec.arguments(payload)
        return await activity.function(*bound.args, **bound.kwargs)

    def call() -> Any:
        bound = activity.codec.arguments(payload)
        return activity.function(*bound.args, **bound.kwargs)

    return await threads.run(call)


def attempt_in_transaction(
    activity: Activity[Any, Any],
    payload: str,
    info: ActivityInfo,
    transaction: WriterTransaction,
    *,
    random: Random,
    now: Callable[[], int],
) -> Outcome:
    """Run one attempt of a transactional activity, in the writer's thread."""
    described = ActivityInfo(
        info.execution,
        info.workflow,
        info.step,
        info.occurrence,
        info.attempt,
        info.lineage,
        transaction,
    )

    def call() -> Any:
        current_activity.set(described)
        bound = activity.codec.arguments(payload)
        return activity.function(*bound.args, **bound.kwargs)

    try:
        if transaction.broken:
            raise NonRetryable("its SQL rolled back the transaction that it shares with the log")
        value = contextvars.Context().run(call)
        return Outcome(_STEP_COMPLETED, activity.codec.result(value))
    except (Exception, SystemExit) as error:
        return failure(activity, info.attempt, error, random=random, now=now)


def failure(
    activity: Activity[Any, Any],
    attempt: int,
    error: BaseException,
    *,
    random: Random,
    now: Callable[[], int],
) -> Outcome:
    """What a failed attempt means: another one later, or the end of the activity."""
    # A value that does not fit will not fit next time either.
    hopeless = isinstance(error, PayloadError)
    wait = None if hopeless else activity.retry.wait(attempt, error, random)
    if wait is None:
        return Outcome(Kind.STEP_FAILED, failure_payload(error, attempt))
    retry_at = now() + round(wait * 1000)
    body = {**describe(error), "attempt": attempt, "next": retry_at}
    return Outcome(Kind.STEP_RETRY, _json(body), retry_at)


def failure_payload(error: BaseException, attempts: int) -> str:
    """What the log keeps of an activity that failed for good."""
    return _json({**describe(error), "attempts": attempts})


def _json(body: dict[str, Any]) -> str:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False)
