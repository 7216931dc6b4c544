"""What an engine tells whoever watches it: only what is new, and only once the log has it.

A replay tells nothing, so what an observer counts or shows, it counts once however often the
engine is started again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from node.engine.context import ActivityInfo
from node.engine.events import Kind, Payload

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Watched:
    """An execution as an observer is told of it, times in unix milliseconds.

    `reopened_at` is 0 unless it had failed and is tried again; `trace` the `traceparent` that its
    start came with, if any; `parent` the id of the execution that started it; `run` counts the
    histories of its id from 1.
    """

    id: str
    workflow: str
    started_at: int
    reopened_at: int = 0
    trace: str | None = None
    parent: str | None = None
    run: int = 1


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt of a step that has ended, times in unix milliseconds.

    `kind` says how: STEP_COMPLETED, STEP_FAILED (for good) or STEP_RETRY, whose payloads are
    those of the log, or STEP_CANCELLED, when nobody waits for it any more. `retry_at` is when the
    next one may start.
    """

    execution: Watched
    info: ActivityInfo
    began_at: int
    ended_at: int
    kind: Kind
    payload: Payload = None
    retry_at: int = 0


class Observer:
    """Watches an engine; each method does nothing until it is overridden.

    All are called on the engine's loop and must be quick. What they raise is logged, and the
    engine goes on.
    """

    def execution_started(self, execution: Watched) -> None:
        """Its start is in the log."""

    def execution_continued(self, execution: Watched) -> None:
        """It goes on with a new input and an empty history."""

    def execution_closed(self, execution: Watched, kind: Kind, payload: Payload, at: int) -> None:
        """Its end, an event of this kind, is in the log; unix milliseconds."""

    def execution_stopped(self, execution: Watched, error: Exception) -> None:
        """Its code cannot follow its log. Unlike the others, told again by each engine that finds
        it so."""

    def attempt_began(self, execution: Watched, info: ActivityInfo) -> None:
        """Called with the context variables that the activity's code will have; for one that is
        transactional, only when it is over. One that ends with the engine begins and does not
        end."""

    def attempt_ended(self, attempt: Attempt) -> None:
        """And how it ended is in the log."""

    def committed(self, events: int, seconds: float) -> None:
        """The log took these events in one commit, which took so long to be synced."""


class Observers(Observer):
    """Several observers as one. What one of them raises is logged, and nobody else feels it."""

    def __init__(self, several: Sequence[Observer]) -> None:
        self._several = tuple(several)

    def execution_started(self, execution: Watched) -> None:
        self._tell(lambda one: one.execution_started(execution))

    def execution_continued(self, execution: Watched) -> None:
        self._tell(lambda one: one.execution_continued(execution))

    def execution_closed(self, execution: Watched, kind: Kind, payload: Payload, at: int) -> None:
        self._tell(lambda one: one.execution_closed(execution, kind, payload, at))

    def execution_stopped(self, execution: Watched, error: Exception) -> None:
        self._tell(lambda one: one.execution_stopped(execution, error))

    def attempt_began(self, execution: Watched, info: ActivityInfo) -> None:
        self._tell(lambda one: one.attempt_began(execution, info))

    def attempt_ended(self, attempt: Attempt) -> None:
        self._tell(lambda one: one.attempt_ended(attempt))

    def committed(self, events: int, seconds: float) -> None:
        self._tell(lambda one: one.committed(events, seconds))

    def _tell(self, tell: Callable[[Observer], None]) -> None:
        for one in self._several:
            try:
                tell(one)
            except Exception:
                logger.exception("an observer failed; the engine goes on")


class Watch:
    """One attempt under an observer's eyes. `now` gives unix milliseconds; `stopped` tells
    whether the engine has, since an attempt that it takes with it has not ended."""

    __slots__ = ("_attempt", "_began_at", "_execution", "_info", "_now", "_observer", "_stopped")

    def __init__(
        self,
        observer: Observer,
        execution: Watched,
        info: ActivityInfo,
        now: Callable[[], int],
        stopped: Callable[[], bool],
    ) -> None:
        self._observer = observer
        self._execution = execution
        self._info = info
        self._now = now
        self._stopped = stopped
        self._began_at = 0
        self._attempt: Attempt | None = None

    @property
    def began(self) -> bool:
        """Whether the activity's code has run."""
        return self._began_at > 0

    def begin(self, *, aloud: bool = True) -> bool:
        """The activity's code runs from here on, which the observer hears now or, with `tell`,
        later. True, to be used as a condition."""
        self._began_at = self._now()
        if aloud:
            self._observer.attempt_began(self._execution, self._info)
        return True

    def ended(self, kind: Kind, payload: Payload, retry_at: int = 0) -> Callable[[int], None]:
        """How it ended; what is returned is to be called with the sequence of that in the log,
        0 when it came too late for the code."""
        self._attempt = Attempt(
            self._execution, self._info, self._began_at, self._now(), kind, payload, retry_at
        )
        return self._committed

    def tell(self) -> None:
        """An attempt that was begun in silence is over, and how it ended is in the log."""
        if self._attempt is not None:
            self._observer.attempt_began(self._execution, self._info)
            self._observer.attempt_ended(self._attempt)

    def _committed(self, sequence: int) -> None:
        attempt = self._attempt
        if attempt is None or (sequence == 0 and self._stopped()):
            return
        if sequence == 0:
            attempt = replace(attempt, kind=Kind.STEP_CANCELLED, payload=None)
        self._observer.attempt_ended(attempt)
