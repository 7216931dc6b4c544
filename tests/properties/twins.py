"""Engines that are broken on purpose, each in one rule. The properties must notice every one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from random import Random
from typing import Any, cast

import pytest

from node.engine import restoring
from node.engine.activities import Activities
from node.engine.beginning import Post
from node.engine.commits import Commits
from node.engine.events import CLOSING, Event, Kind, Payload
from node.engine.executor import Executor
from node.engine.families import Families
from node.engine.following import Follower
from node.engine.live import Ending, Live
from node.engine.queues import Queues
from node.engine.run import Run
from node.engine.schema import connect
from node.engine.steps import Command, Pending, Step
from node.engine.store import Store
from node.engine.telling import Telling
from node.engine.writer import WriterTransaction

Patch = pytest.MonkeyPatch


def counts_at_completion(patch: Patch) -> None:
    """The first result of a name is the first call's, whichever call it is of."""
    deliver = Run.deliver

    def twin(self: Run, kind: Kind, step: Step, payload: Payload, at: int) -> list[Command]:
        if kind is Kind.STEP_COMPLETED:
            step = next((one for one in self.pending if one[0] == step[0]), step)
        return deliver(self, kind, step, payload, at)

    patch.setattr(Run, "deliver", twin)


def tells_signals_again(patch: Patch) -> None:
    """An engine that opens a log tells the newest signal once more."""
    restore = Executor.restore

    def twin(self: Executor, stored: Any, whole: Sequence[Event]) -> Live:
        live = restore(self, stored, whole)
        signals = [event for event in whole if event.kind is Kind.SIGNAL]
        if signals and not live.over:
            last = signals[-1]
            step = (last.name, last.occurrence)
            self._turn(live, lambda: live.code.deliver(last.kind, step, last.payload, last.at))
        return live

    patch.setattr(Executor, "restore", twin)


def replays_timers_as_they_are_due(patch: Patch) -> None:
    """Not in the order in which the log says that they fired."""
    init = Follower.__init__

    def twin(self: Follower, run: Any, history: Sequence[Event], strict: bool) -> None:
        init(self, run, history, strict)
        fired = [event for event in self.deliveries if event.kind is Kind.TIMER_FIRED]
        by_deadline = iter(sorted(fired, key=lambda event: -event.occurrence))
        for place, event in enumerate(self.deliveries):
            if event.kind is Kind.TIMER_FIRED:
                other = next(by_deadline)
                self.deliveries[place] = event._replace(occurrence=other.occurrence)

    patch.setattr(Follower, "__init__", twin)


def tells_the_end_before_its_commit(patch: Patch) -> None:
    """Who waits for a result has it while the log does not."""
    do = Executor._do

    def twin(self: Executor, live: Live, command: Command) -> None:
        do(self, live, command)
        if command.kind in CLOSING:
            sequence = self._commits.sequence + 1
            live.ended = Ending(command.kind, command.payload, 0, sequence)
            live.closed.set()

    patch.setattr(Executor, "_do", twin)


def logs_transactions_afterwards(patch: Patch) -> None:
    """A transactional activity has a transaction of its own, and its outcome the next one."""

    def twin(self: Activities, live: Live, pending: Pending) -> None:
        current = self._wanted(live, pending)
        if current is None:
            return
        if live.still:
            live.held.append(partial(twin, self, live, pending))
            return
        from node.engine.attempts import attempt_in_transaction

        info, activity = self._info(live, current), current.activity
        assert activity is not None
        with closing(connect(paths[-1])) as db:
            db.set_busy_timeout(100)
            db.execute("BEGIN IMMEDIATE")
            transaction = WriterTransaction(db)
            outcome = attempt_in_transaction(
                activity,
                cast(str, current.payload),
                info,
                transaction,
                random=self._random,
                now=self._now,
            )
            db.execute("COMMIT" if outcome.kind is Kind.STEP_COMPLETED else "ROLLBACK")
        if outcome.kind is Kind.STEP_RETRY:
            self._log_retry(live, current, outcome, None)
        else:
            end = partial(self._resolve, live, outcome.kind, current, outcome.payload, None)
            beat = live.entry(Kind.HEARTBEAT, *current.step, "0", lambda sequence: end())
            self._commits.append(beat)

    paths: list[Any] = []
    init = Store.__init__

    def noted(self: Store, path: Any, **more: Any) -> None:
        paths.append(path)
        init(self, path, **more)

    patch.setattr(Store, "__init__", noted)
    patch.setattr(Activities, "call", twin)


def has_chance_of_its_own(patch: Patch) -> None:
    """Random numbers that no replay gives again."""

    def twin(self: Run) -> Random:
        if self._random is None:
            self._random = Random()
        return self._random

    patch.setattr(Run, "random", property(twin))


def forgets_the_keys_of_messages(patch: Patch) -> None:
    """A signal that is sent again after a restart arrives again."""
    of = Post.of

    def twin(history: Any) -> Post:
        return Post(of(history).counts)

    patch.setattr(Post, "of", staticmethod(twin))


def forgets_families(patch: Patch) -> None:
    """What a crash has left between parents and children is not settled."""
    patch.setattr(Families, "recover", lambda self: None)


def forgets_attempts(patch: Patch) -> None:
    """A step that was tried before a restart is tried from the beginning."""
    init = Follower.__init__

    def twin(self: Follower, run: Any, history: Sequence[Event], strict: bool) -> None:
        init(self, run, history, strict)
        self.notes = []

    patch.setattr(Follower, "__init__", twin)


def forgets_pauses(patch: Patch) -> None:
    """What was paused runs on after a restart."""
    patch.setattr(restoring, "_is_paused", lambda beginning, history: False)


def starts_before_its_intent(patch: Patch) -> None:
    """An activity runs while its call is not in the log."""
    append = Commits.append

    def twin(self: Any, entry: Any) -> int:
        at = append(self, entry)
        if entry.kind is Kind.STEP and entry.after is not None:
            after, entry.after = entry.after, None
            after(self.sequence + 1)
        return at

    patch.setattr(Commits, "append", twin)


def gives_turns_to_the_dead(patch: Patch) -> None:
    """What has ended in its queue stands in the line until its family has heard of it."""
    patch.setattr(Queues, "hold", lambda self, live, ticket: None)


def tells_without_logging(patch: Patch) -> None:
    """A timer wakes the code, and the log does not say so."""
    log_and_tell = Telling._log_and_tell

    def twin(
        self: Telling, live: Live, kind: Kind, step: Step, payload: Payload, *more: Any
    ) -> None:
        if kind is Kind.TIMER_FIRED and live.run is not None:
            self._tell(live, live.run, kind, step, payload, self._commits.coming)
        else:
            log_and_tell(self, live, kind, step, payload, *more)

    patch.setattr(Telling, "_log_and_tell", twin)


TWINS: list[Callable[[Patch], None]] = [
    counts_at_completion,
    tells_signals_again,
    replays_timers_as_they_are_due,
    tells_the_end_before_its_commit,
    logs_transactions_afterwards,
    has_chance_of_its_own,
    forgets_the_keys_of_messages,
    forgets_families,
    forgets_attempts,
    forgets_pauses,
    starts_before_its_intent,
    gives_turns_to_the_dead,
    tells_without_logging,
]
