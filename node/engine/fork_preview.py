"""What a fork would do, step by step, before it is made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, cast

from node.engine.errors import EngineError
from node.engine.events import (
    CLOSED_STATUS,
    CLOSING,
    DONE,
    INTENTS,
    TIMER_STEP,
    Event,
    Kind,
    Payload,
)
from node.engine.fork_source import Source
from node.engine.forked import ForkMode, Supply, same
from node.engine.forking import Fork
from node.engine.run import Run
from node.engine.steps import Command, Pending, Step

#: Steps after which a preview ends, for code that never does.
MOST: Final = 10_000


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step of a fork. `action` is `stands` (it is there already), `reused` (the recorded
    result is taken), `runs` or `unknown` (what comes before it decides). `certain` is False
    where that rests on steps which run again giving what they gave before."""

    name: str
    occurrence: int
    kind: str
    action: str
    why: str
    certain: bool = True


@dataclass(frozen=True, slots=True)
class Preview:
    """What a fork would do. `ends` says how far that is known."""

    mode: ForkMode
    steps: Sequence[PlannedStep]
    ends: str


_KINDS: Final = {Kind.STEP: "activity", Kind.CHILD: "child", Kind.EXTERNAL: "external"}


def preview_exact(fork: Fork) -> Preview:
    """What an exact fork would do, or a record."""
    again = set(fork.again)
    kept = {(one.name, one.occurrence) for one in fork.kept.outcomes}
    found: list[PlannedStep] = []
    for kind, name, number, payload in fork.stands:
        if kind not in INTENTS or name == TIMER_STEP:
            continue
        action, why = "stands", ""
        if (name, number) in again:
            action, why = "runs", "it has no outcome that stands"
            if kind is Kind.CHILD:
                why = f"as a new execution, {json.loads(str(payload))['id']}"
            elif kind is Kind.EXTERNAL:
                why = "it waits for its completion, with another token"
        elif (name, number) in kept:
            action, why = "reused", "it was called before, and completed after"
        found.append(PlannedStep(name, number, _KINDS[kind], action, why))
    for name, number in fork.dropped:
        why = "it was called after what stands"
        found.append(PlannedStep(name, number, "step", "unknown", why, False))
    mode = fork.forked.source.mode
    ends = "nothing: it is a record" if mode is ForkMode.RECORD else "the code goes on from there"
    return Preview(mode, found, ends)


def preview_reuse(fork: Fork, source: Source, run: Run, now: int) -> Preview:
    """What a fork that reuses results would do, by running its code (`run`, which nobody else
    uses) from its beginning at `now`, unix milliseconds.

    A step that would run again is taken to give what it gave before.
    """
    return _Rehearsal(fork, source, run, now).preview()


@dataclass(slots=True)
class _Call:
    """A step of the source, and how it ended; `outcome` is None for one that did not do well."""

    name: str
    input: Payload
    version: str | None
    outcome: tuple[Kind, Payload] | None = None
    used: bool = False


@dataclass(slots=True, eq=False)
class _Wait:
    """A step that the code waits for, and what it would be told; None where nobody knows."""

    pending: Pending
    outcome: tuple[Kind, Payload] | None
    assumed: bool = False


class _Rehearsal:
    def __init__(self, fork: Fork, source: Source, run: Run, now: int) -> None:
        self.run = run
        self.now = now
        self.supply = Supply(fork.kept.results)
        self.taken = {(one.name, one.version, same(one.input)) for one in fork.kept.results}
        self.calls = _calls(source.history)
        self.certain = True
        self.steps: list[PlannedStep] = []
        self.waits: list[_Wait] = []
        self.ends = ""

    def preview(self) -> Preview:
        try:
            self._take(self.run.begin(self.now))
            while not self.run.finished and self._go_on():
                pass
        except EngineError as error:
            self.ends = f"the code is stopped: {error}"
        return Preview(ForkMode.REUSE, self.steps, self.ends)

    def _go_on(self) -> bool:
        if len(self.steps) > MOST:
            self.ends = f"after {MOST} steps it goes on"
            return False
        self.waits = [one for one in self.waits if one.pending.step in self.run.pending]
        known = [one for one in self.waits if one.outcome is not None]
        unknown = [one for one in self.waits if one.outcome is None]
        timers = [one for one in self.run.pending.values() if one.kind is Kind.TIMER]
        if known:
            wait = known[0]
            self.waits.remove(wait)
            self.certain = self.certain and not wait.assumed
            kind, payload = cast("tuple[Kind, Payload]", wait.outcome)
            self._take(self.run.deliver(kind, wait.pending.step, payload, self.now))
        elif timers and not unknown:
            timer = min(timers, key=lambda one: int(str(one.payload)))
            self.now = max(self.now, int(str(timer.payload)))
            self._take(self.run.deliver(Kind.TIMER_FIRED, timer.step, None, self.now))
        else:
            names = ", ".join(f"{one.pending.name}#{one.pending.occurrence}" for one in unknown)
            self.ends = f"the rest depends on {names or 'a message'}"
            return False
        return True

    def _take(self, commands: Iterable[Command]) -> None:
        for command in commands:
            if command.kind is Kind.CONTINUED:
                self.ends = "it goes on with a new input"
            elif command.kind in CLOSING:
                self.ends = f"it ends: {CLOSED_STATUS[command.kind]}"
            elif command.kind in _KINDS:
                self._plan(command)

    def _plan(self, command: Command) -> None:
        pending = command.pending
        activity = None if pending is None else pending.activity
        version = None if activity is None else activity.version
        wait = None if pending is None else _Wait(pending, None)
        action, why = "runs", "children run again, as new executions"
        if command.kind is Kind.STEP:
            found = self.supply.take(command.name, version, str(command.payload))
            why = self._why(command.name, version, str(command.payload))
            if found is not None and wait is not None:
                action, why = "reused", "the same version and arguments"
                wait.outcome = (Kind.STEP_REUSED, found.result)
        elif command.kind is Kind.EXTERNAL:
            why = "it waits for its completion again"
        if wait is not None:
            self._assume(command, wait)
            self.waits.append(wait)
        kind = _KINDS[command.kind]
        self.steps.append(
            PlannedStep(command.name, command.occurrence, kind, action, why, self.certain)
        )

    def _assume(self, command: Command, wait: _Wait) -> None:
        """The first call of this name that nobody has answered like this may tell what comes."""
        named = [one for one in self.calls if one.name == command.name and not one.used]
        alike = [one for one in named if _alike(one, command)]
        for call in (alike or named)[:1]:
            call.used = True
            if wait.outcome is None:
                wait.outcome, wait.assumed = call.outcome, call.outcome is not None

    def _why(self, name: str, version: str | None, input: str) -> str:
        named = [one for one in self.calls if one.name == name]
        alike = [one for one in named if same(str(one.input)) == same(input)]
        done = [one for one in alike if one.outcome is not None]
        versions = sorted({_words(one.version) for one in done if one.version != version})
        if not named:
            return "a new step"
        if not alike:
            return "its arguments changed"
        if not done:
            return "it did not complete before"
        if versions and all(one.version != version for one in done):
            return f"its version changed ({', '.join(versions)} → {_words(version)})"
        if (name, version, same(input)) in self.taken:
            return "it is called more often than before"
        return "it is not before the step from which all run again"


def _calls(history: Iterable[Event]) -> list[_Call]:
    found: dict[Step, _Call] = {}
    for event in history:
        step = (event.name, event.occurrence)
        if event.kind in _KINDS:
            found[step] = _Call(event.name, event.payload, None)
        elif event.kind is Kind.STEP_VERSION:
            found[step].version = str(event.payload)
        elif event.kind in DONE:
            kind = Kind.STEP_COMPLETED if event.kind is Kind.STEP_REUSED else event.kind
            found[step].outcome = (kind, event.payload)
    return list(found.values())


def _alike(call: _Call, command: Command) -> bool:
    if command.kind is not Kind.STEP:
        return call.input == command.payload
    return same(str(call.input)) == same(str(command.payload))


def _words(version: str | None) -> str:
    return "none" if version is None else version
