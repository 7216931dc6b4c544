"""What happens in a developer's engine, as lines for whoever shows it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from node.engine.context import ActivityInfo
from node.engine.engine import Engine
from node.engine.errors import Divergence, EngineError
from node.engine.events import CLOSED_STATUS, RESERVED, Kind, Payload
from node.engine.observer import Attempt, Observer, Watched

Send = Callable[[dict[str, Any]], None]

#: Seconds of silence after which it is said what an execution waits for.
QUIET: Final = 0.3
_ENDS: Final = {
    Kind.STEP_COMPLETED: "step_completed",
    Kind.STEP_FAILED: "step_failed",
    Kind.STEP_RETRY: "step_retry",
    Kind.STEP_CANCELLED: "step_cancelled",
}


class Reporter(Observer):
    """Sends each thing that happens as one flat object with `event` and `at` (unix seconds).

    `engine` is set once there is one: it is asked what an execution waits for.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self.engine: Engine | None = None
        self._running: dict[str, int] = {}
        self._looks: dict[str, asyncio.TimerHandle] = {}
        self._waits: dict[str, list[tuple[str, str]]] = {}

    def execution_started(self, execution: Watched) -> None:
        self._say("execution_started", execution)

    def execution_continued(self, execution: Watched) -> None:
        self._say("execution_continued", execution)

    def execution_closed(self, execution: Watched, kind: Kind, payload: Payload, at: int) -> None:
        begun = execution.reopened_at or execution.started_at
        outcome = _value(payload)
        self._say(
            "execution_closed",
            execution,
            status=CLOSED_STATUS[kind].value,
            seconds=(at - begun) / 1000,
            **({"result": outcome} if kind is Kind.COMPLETED else {"error": outcome}),
        )
        for known in (self._running, self._waits):
            known.pop(execution.id, None)
        look = self._looks.pop(execution.id, None)
        if look is not None:
            look.cancel()

    def execution_stopped(self, execution: Watched, error: Exception) -> None:
        more: dict[str, Any] = {"type": type(error).__name__, "message": str(error)}
        if isinstance(error, EngineError):
            more["hint"] = error.hint
        if isinstance(error, Divergence):
            more |= {"sequence": error.sequence, "logged": error.logged, "did": error.did}
        self._say("execution_diverged", execution, **more)

    def attempt_began(self, execution: Watched, info: ActivityInfo) -> None:
        self._running[execution.id] = self._running.get(execution.id, 0) + 1
        self._say("step_began", execution, **_step(info))

    def attempt_ended(self, attempt: Attempt) -> None:
        execution = attempt.execution
        self._running[execution.id] = self._running.get(execution.id, 1) - 1
        more: dict[str, Any] = {"seconds": (attempt.ended_at - attempt.began_at) / 1000}
        if attempt.kind in (Kind.STEP_FAILED, Kind.STEP_RETRY):
            more["error"] = _value(attempt.payload)
        if attempt.kind is Kind.STEP_RETRY:
            more["retry_in"] = max(0.0, attempt.retry_at / 1000 - time.time())
        self._say(_ENDS[attempt.kind], execution, **_step(attempt.info), **more)

    def look(self) -> None:
        """Say of every open execution what it waits for."""
        assert self.engine is not None
        for view in self.engine.executions(limit=100):
            if view.closed_at is None:
                self._look_soon(view.id, view.workflow)

    def _say(self, event: str, execution: Watched, **more: Any) -> None:
        if execution.workflow.startswith(RESERVED):
            return
        about = {"execution": execution.id, "workflow": execution.workflow}
        self._send({"event": event, "at": time.time(), **about, **more})
        if event not in ("execution_closed", "execution_diverged"):
            self._look_soon(execution.id, execution.workflow)

    def _look_soon(self, id: str, workflow: str) -> None:
        before = self._looks.pop(id, None)
        if before is not None:
            before.cancel()
        loop = asyncio.get_running_loop()
        self._looks[id] = loop.call_later(QUIET, self._look, id, workflow)

    def _look(self, id: str, workflow: str) -> None:
        self._looks.pop(id, None)
        if self.engine is None or self._running.get(id, 0) > 0:
            return
        try:
            waits = [asdict(wait) for wait in self.engine.waiting(id)]
        except EngineError:
            return
        names = [(wait["kind"], wait["name"]) for wait in waits]
        if names and self._waits.get(id) != names and names[0][0] not in ("code", "activity"):
            self._waits[id] = names
            about = {"execution": id, "workflow": workflow}
            self._send({"event": "execution_waits", "at": time.time(), **about, "for": waits})


def _step(info: ActivityInfo) -> dict[str, Any]:
    return {"step": info.step, "occurrence": info.occurrence, "attempt": info.attempt}


def _value(payload: Payload) -> Any:
    return json.loads(payload) if isinstance(payload, str) else payload
