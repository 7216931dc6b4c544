"""From a committed intent to an outcome: when an activity may start, and when again."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from random import Random
from time import perf_counter
from typing import Any, Final, cast

from node.engine.attempts import Outcome, Threads, attempt, attempt_in_transaction, failure_payload
from node.engine.commits import Commits
from node.engine.context import ActivityInfo
from node.engine.definition import Activity
from node.engine.durability import Durability, Proofs, effective
from node.engine.errors import EngineStopped, Interrupted
from node.engine.events import Kind, Payload
from node.engine.live import Live
from node.engine.observer import Observer, Watch
from node.engine.pulse import Pulse
from node.engine.steps import Pending, Progress
from node.engine.stream import chunk
from node.engine.writer import Call, WriterTransaction

logger = logging.getLogger(__name__)

#: Seconds between two looks whether effects are allowed again.
AUTHORITY_PAUSE: Final = 0.2
# Looking a member up in its enumeration takes 0.1 us, some dozens of times a step.
_STEP_RETRY: Final = Kind.STEP_RETRY
_ASYNC: Final = Durability.ASYNC


class _Attempt(asyncio.Task[None]):
    """A task that is among the `running` until it ends, at which it takes itself out."""

    running: set[asyncio.Task[Any]]

    def cancel(self, msg: Any | None = None) -> bool:
        # It may not have begun, and then does not get to the end of its code.
        self.add_done_callback(self.running.discard)
        return super().cancel(msg)


Committed = Callable[[int], None]
Resolve = Callable[[Live, Kind, Pending, Payload, Committed | None], None]
Called = Callable[[Live, Pending, Kind, Payload, int], None]
Wake = Callable[[Live, Pending], None]
StandIn = Callable[[Activity[Any, Any]], Activity[Any, Any]]


class Activities:
    """Runs the activities of open executions.

    `resolve` is given the outcome of an activity, to be logged and told, and what to call with
    its sequence (0 when it comes too late); `called` the outcome
    of a transactional one, which is in the log already; `wake` an activity that is to be
    launched again at its `retry_at`. `stand_in` gives what is run in the place of an activity,
    which is retried as the activity is. `on_broken` hears of a mistake of ours.
    """

    def __init__(
        self,
        *,
        lineage: str,
        floor: Durability,
        commits: Commits,
        proofs: Proofs,
        threads: int,
        authority: Callable[[], bool],
        random: Random,
        now: Callable[[], int],
        resolve: Resolve,
        called: Called,
        wake: Wake,
        on_broken: Callable[[BaseException], None],
        stand_in: StandIn | None,
        observer: Observer | None,
        on_chunk: Callable[[str, int], None],
    ) -> None:
        self._lineage = lineage
        self._floor = floor
        self._commits = commits
        self._proofs = proofs
        self._threads = Threads(threads)
        self._authority = authority
        self._random = random
        self._now = now
        self._resolve = resolve
        self._called = called
        self._wake = wake
        self._on_broken = on_broken
        self._stand_in = stand_in
        self._observer = observer
        self._on_chunk = on_chunk
        self._loop = asyncio.get_running_loop()
        self._stopped = False
        self._context = contextvars.copy_context()
        self._running: set[asyncio.Task[Any]] = set()
        self._telling: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """No attempt starts from here on."""
        self._stopped = True
        self._threads.close()

    @property
    def running(self) -> int:
        """How many attempts are under way, or about to be."""
        return len(self._running)

    @property
    def thread_is_free(self) -> bool:
        """Whether a plain function could start at once."""
        return self._threads.free

    def committed(self, live: Live, pending: Pending, sequence: int) -> None:
        """The intent is in the log at `sequence`: run the activity."""
        current = self._wanted(live, pending)
        if current is not None:
            current.progress.sequence = sequence
            self._start(live, current)

    def launch(self, live: Live, pending: Pending) -> None:
        """Start an attempt, now or when it is time for it."""
        current = self._wanted(live, pending)
        if current is not None:
            self._start(live, current)

    def _start(self, live: Live, current: Pending) -> None:
        due = current.progress.retry_at
        if due and due > self._now():
            self._wake(live, current)
        elif _activity(current).transactional:
            self.call(live, current)
        elif live.still:
            live.held.append(partial(self.launch, live, current))
        else:
            # What set this off can be another attempt, whose context variables are its own.
            task = _Attempt(
                self._perform(live, current), loop=self._loop, context=self._context.copy()
            )
            task.running = self._running
            self._running.add(task)
            current.progress.attempt = task

    def launch_again(self, live: Live, pending: Pending, crashes: int) -> None:
        """After a restart, `crashes` of which came since the last sign of life."""
        activity = _activity(pending)
        if crashes < activity.retry.max_interruptions:
            self.launch(live, pending)
            return
        error = Interrupted(
            f"the engine's process crashed {crashes} times while it ran, and it may be why"
        )
        payload = failure_payload(error, pending.progress.failures + crashes)
        self._resolve(live, Kind.STEP_FAILED, pending, payload, None)

    def _wanted(self, live: Live, pending: Pending) -> Pending | None:
        """The step as the code knows it now, None when it no longer waits for it."""
        run = live.run
        if self._stopped or run is None or run.finished:
            return None
        return run.pending.get(pending.step)

    def may_have_effects(self) -> bool:
        """Whether anything may leave the node now."""
        return not self._stopped and self._authority()

    async def _perform(self, live: Live, pending: Pending) -> None:
        activity = _activity(pending)
        acting = activity if self._stand_in is None else self._stand_in(activity)
        progress = pending.progress
        task = cast("asyncio.Task[Any]", progress.attempt)
        level = effective(self._floor, live.code.workflow.durability, activity.durability)
        watch: Watch | None = None
        try:
            if level is not _ASYNC:
                await self._proofs.wait(progress.sequence)
            while not live.still:
                pulse = Pulse(
                    partial(self._log_progress, live, pending),
                    progress.heartbeat,
                    partial(self._publish, live, pending),
                )
                info = self._info(live, pending, pulse)
                if self._observer is not None:
                    watch = self._watch(self._observer, live, info)
                may_start = partial(self._may_start, live, progress, watch)
                outcome = await attempt(
                    acting,
                    cast(str, pending.payload),
                    info,
                    self._threads,
                    may_start,
                    random=self._random,
                    now=self._now,
                )
                if outcome is None:
                    await asyncio.sleep(AUTHORITY_PAUSE)
                    continue
                self._commits.tally.attempt(activity.name, outcome.took)
                if outcome.kind is _STEP_RETRY:
                    self._log_retry(live, pending, outcome, watch)
                    return
                self._over(live, pending, outcome, watch)
                return
            live.held.append(partial(self.launch, live, pending))
        except EngineStopped:
            return
        except asyncio.CancelledError:
            if watch is not None and watch.began and not self._stopped:
                self._end_when_settled(watch)
            raise
        except Exception as error:
            # Not the activity's failure but ours: nobody else would ever see it.
            logger.exception("running %s broke the engine", pending.name, extra=live.about)
            self._on_broken(error)
        finally:
            self._running.discard(task)

    def _may_start(self, live: Live, progress: Progress, watch: Watch | None) -> bool:
        if live.paused or live.queued or self._stopped or not self._authority():
            return False
        progress.began_at = self._now()
        return watch is None or watch.begin()

    def _watch(self, observer: Observer, live: Live, info: ActivityInfo) -> Watch:
        return Watch(observer, live.watched, info, self._now, lambda: self._stopped)

    def _end_when_settled(self, watch: Watch) -> None:
        tell = watch.ended(Kind.STEP_CANCELLED, None)

        async def settled() -> None:
            with suppress(EngineStopped):
                tell(await self._commits.settled())

        task = self._loop.create_task(settled())
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    def _over(self, live: Live, pending: Pending, outcome: Outcome, watch: Watch | None) -> None:
        loop, commits = self._loop, self._commits
        task = pending.progress.attempt
        assert task is not None
        self._running.discard(task)
        # Each leads to the other, which only a search for garbage would find.
        pending.progress.attempt = None
        # The workflow's code, which hears of it now, runs in tasks of its own, and a task is
        # not entered from within another.
        _leave_task(loop, task)
        commits.hold()
        try:
            told = None if watch is None else watch.ended(outcome.kind, outcome.payload)
            self._resolve(live, outcome.kind, pending, outcome.payload, told)
        finally:
            try:
                # At once where nobody is left who could have something for the same commit.
                commits.let_go(now=not self._running)
            finally:
                _enter_task(loop, task)

    def _log_progress(self, live: Live, pending: Pending, progress: str) -> None:
        current = self._wanted(live, pending)
        if current is not None and not current.progress.resolved:
            current.progress.heartbeat = progress
            self._commits.append(live.entry(Kind.HEARTBEAT, *pending.step, progress))

    def _publish(
        self,
        live: Live,
        pending: Pending,
        stream: str,
        values: list[str],
        begins: bool,
        committed: Callable[[int], None],
    ) -> bool:
        current = self._wanted(live, pending)
        if current is None or current.progress.resolved:
            return False

        def published(sequence: int) -> None:
            committed(sequence)
            self._on_chunk(live.key, sequence)

        payload = chunk(values, stream=stream, begins=begins)
        self._commits.append(live.entry(Kind.STEP_CHUNK, *pending.step, payload, published))
        return True

    def _info(self, live: Live, pending: Pending, pulse: Pulse | None = None) -> ActivityInfo:
        return ActivityInfo(
            execution=live.key,
            workflow=live.workflow,
            step=pending.name,
            occurrence=pending.occurrence,
            attempt=pending.progress.failures + 1,
            lineage=self._lineage,
            pulse=pulse,
        )

    def _log_retry(
        self, live: Live, pending: Pending, outcome: Outcome, watch: Watch | None
    ) -> None:
        """The next attempt waits for its time once this one's failure is in the log."""
        if self._wanted(live, pending) is None:
            return
        told = None
        if watch is not None:
            told = watch.ended(outcome.kind, outcome.payload, outcome.retry_at)

        def committed(sequence: int) -> None:
            if told is not None:
                told(sequence)
            self.launch(live, pending)

        self._commits.append(live.entry(outcome.kind, *pending.step, outcome.payload, committed))
        pending.progress.failures += 1
        pending.progress.retry_at = outcome.retry_at
        pending.progress.error = str(outcome.payload)
        pending.progress.began_at = 0
        pending.progress.attempt = None

    # Transactional ones -----------------------------------------------------------------------

    def call(self, live: Live, pending: Pending) -> None:
        """Hand a transactional activity to the writer, to be run in the next commit.

        Its writes go to this log only, which a later owner never reads again, so there is no
        authority to ask for.
        """
        current = self._wanted(live, pending)
        if current is None:
            return
        if live.still:
            live.held.append(partial(self.call, live, pending))
            return
        info = self._info(live, current)
        activity = _activity(current)
        if self._stand_in is not None:
            activity = self._stand_in(activity)
        payload = cast(str, current.payload)

        watch = None if self._observer is None else self._watch(self._observer, live, info)

        def perform(transaction: WriterTransaction) -> tuple[Kind, Payload]:
            if watch is not None:
                watch.begin(aloud=False)
            began = perf_counter()
            outcome = attempt_in_transaction(
                activity, payload, info, transaction, random=self._random, now=self._now
            )
            # The writer has one of them at a time, and nothing else ever adds to its histogram.
            self._commits.tally.attempt(activity.name, perf_counter() - began)
            if watch is not None:
                watch.ended(outcome.kind, outcome.payload, outcome.retry_at)
            return outcome.kind, outcome.payload

        live.in_transaction += 1
        after = partial(self._performed, live, current, watch)
        self._commits.call(Call(live.rowid, live.key, *current.step, perform, after))

    def _performed(
        self,
        live: Live,
        pending: Pending,
        watch: Watch | None,
        kind: Kind,
        payload: Payload,
        at: int,
    ) -> None:
        if watch is not None:
            watch.tell()
        current = self._wanted(live, pending)
        if current is not None and kind is Kind.STEP_RETRY:
            failure = json.loads(cast(str, payload))
            current.progress.failures = failure["attempt"]
            current.progress.retry_at = failure["next"]
            current.progress.error = str(payload)
            self.launch(live, current)
        self._called(live, pending, kind, payload, at)


def _activity(pending: Pending) -> Activity[Any, Any]:
    assert pending.activity is not None
    return pending.activity
