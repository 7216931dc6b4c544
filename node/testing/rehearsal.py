"""For tests of workflows: a rehearsal runs one workflow's code on a log that is only a list.

No file, no clock, no threads: the test says which step ends how and when, and can replay the
code from the log at any point.
"""

from __future__ import annotations

import json
from typing import Any

from node.engine.attempts import failure_payload
from node.engine.beginning import Beginning, Post
from node.engine.definition import Workflow
from node.engine.events import CLOSED_STATUS, CLOSING, Event, Kind, Payload, Status, letter
from node.engine.payload import plain_json
from node.engine.run import Run
from node.engine.steps import Command, Step


class Rehearsal:
    """One execution of `workflow` with these keyword arguments, started at `at` (unix ms)."""

    def __init__(
        self,
        workflow: Workflow[..., Any],
        input: dict[str, Any] | None = None,
        *,
        id: str = "rehearsal",
        at: int = 1_700_000_000_000,
        log: list[Event] | None = None,
    ) -> None:
        """With a `log`, the code is replayed from it. Raises Divergence, DeterminismError."""
        self.workflow = workflow
        self.now = at
        self.log: list[Event] = []
        self.post = Post.of(log or ())
        payload = workflow.codec.start(input or {}) if log is None else ""
        beginning = Beginning(payload) if log is None else Beginning.of(log[0])
        self.run = Run(
            key=id, workflow=workflow, beginning=beginning, tenant="test", lineage="test"
        )
        if log is None:
            self._write(Kind.STARTED, workflow.name, 1, payload)
            self._take(self.run.begin(self.now))
        else:
            self.log = list(log)
            self.now = log[-1].at
            self._take(self.run.replay(log))

    @property
    def status(self) -> Status:
        """Running, completed or failed."""
        kind = self.log[-1].kind
        return CLOSED_STATUS.get(kind, Status.RUNNING)

    @property
    def outcome(self) -> Payload:
        """The JSON of the result or of the error, once it is closed."""
        return self.log[-1].payload if self.log[-1].kind in CLOSING else None

    @property
    def waiting(self) -> list[Step]:
        """The activities and timers that the code waits for, in the order of their calls."""
        return list(self.run.pending)

    @property
    def called(self) -> list[str]:
        """The names of the activities called so far, in order."""
        return [event.name for event in self.log if event.kind is Kind.STEP]

    def complete(self, name: str, value: Any = None, occurrence: int = 1) -> None:
        """The activity returns `value`."""
        pending = self.run.pending[name, occurrence]
        assert pending.activity is not None, f"{name} is a timer"
        self.tell(Kind.STEP_COMPLETED, (name, occurrence), pending.activity.codec.result(value))

    def fail(self, name: str, error: Exception, occurrence: int = 1, attempts: int = 1) -> None:
        """The activity fails for good with `error`."""
        self.tell(Kind.STEP_FAILED, (name, occurrence), failure_payload(error, attempts))

    def fire(self, step: Step) -> None:
        """The timer's deadline comes; time moves there."""
        deadline = self.run.pending[step].payload
        assert isinstance(deadline, int), f"{step} is no timer"
        self.now = max(self.now, deadline)
        self.tell(Kind.TIMER_FIRED, step, None)

    def signal(self, name: str, value: Any = None, *, key: str | None = None) -> None:
        """A signal arrives."""
        payload = letter(plain_json(value, name), key)
        self.tell(Kind.SIGNAL, (name, self.post.add(Kind.SIGNAL, name, key)), payload)

    def update(self, name: str, input: dict[str, Any] | None = None) -> None:
        """An update arrives, and is refused by its validator or accepted.

        Raises UnknownHandler, PayloadError, UpdateRefused.
        """
        payload = letter(self.run.messages.admit(name, input or {}), None)
        self.tell(Kind.UPDATE, (name, self.post.add(Kind.UPDATE, name, None)), payload)

    def query(self, name: str, input: dict[str, Any] | None = None) -> Any:
        """Ask the code; see Engine.query."""
        text = self.run.query(name, input or {})
        return None if text is None else json.loads(text)

    def tell(self, kind: Kind, step: Step, payload: Payload) -> None:
        """Log an outcome and let the code see it."""
        self._write(kind, *step, payload)
        self._take(self.run.deliver(kind, step, payload, self.now))

    def replayed(self, events: int | None = None) -> Rehearsal:
        """Another rehearsal, from the log as it is or from its first `events` events.

        Raises Divergence, DeterminismError.
        """
        return Rehearsal(self.workflow, id=self.run.key, log=self.log[:events])

    def _take(self, commands: list[Command]) -> None:
        for command in commands:
            self._write(command.kind, command.name, command.occurrence, command.payload)
        if self.run.finished:
            self.run.drop()

    def _write(self, kind: Kind, name: str, occurrence: int, payload: Payload) -> None:
        number = len(self.log) + 1
        self.log.append(
            Event(number, self.run.key, kind, name, occurrence, payload, self.now, number)
        )
