"""Open executions that begin with what another one had."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from node.engine.activities import Activities
from node.engine.beginning import Beginning, compact, standing
from node.engine.definition import Workflow
from node.engine.events import Event
from node.engine.forked import Kept
from node.engine.forking import Fork
from node.engine.live import Ending, Live, Origin
from node.engine.observer import Observer
from node.engine.queue_ticket import Turn
from node.engine.releases import Releases
from node.engine.run import Run
from node.engine.steering import Steering
from node.engine.store import Stored


class Branching(Steering):
    """How an execution is made of another one, and goes on."""

    _activities: Activities
    _observer: Observer | None
    _rowid: int
    releases: Releases

    @abstractmethod
    def _admit(
        self,
        key: str,
        rowid: int,
        workflow: str,
        payload: str,
        beginning: Beginning,
        origin: Origin,
        begun: bool = False,
    ) -> Live:
        """Have it among the open ones."""

    @abstractmethod
    def _run(
        self, key: str, definition: Workflow[..., Any], beginning: Beginning, origin: Origin
    ) -> Run:
        """Its code."""

    @abstractmethod
    def _go_on_from(
        self,
        live: Live,
        stored: Stored,
        whole: Sequence[Event],
        history: list[Event],
        turn: Turn | None,
        paused: bool | None,
    ) -> None:
        """Let its code go on from where the log has it. `paused` says whether its history began
        so, None for one that is known to be as it is."""

    @abstractmethod
    def _close(self, live: Live, ending: Ending) -> None:
        """Its end is in the log."""

    def fork(self, key: str, fork: Fork, load: Callable[[], tuple[Stored, list[Event]]]) -> Live:
        """Begin a new execution with what another one had. `load` reads it once it is in the
        log; until then it takes no message, and it may not be looked at."""
        self._rowid += 1
        origin = self.releases.begun(fork.workflow, Origin(ticket=fork.ticket))
        live = self._admit(
            key, self._rowid, fork.workflow, fork.beginning.input, fork.beginning, origin
        )
        live.run, live.beginning, live.continuing = None, None, True
        live.paused = fork.beginning.paused
        live.forked_from = compact(fork.forked.source.body())
        self._on_started(fork.workflow, None)
        for kind, name, occurrence, payload in fork.rows(origin.payload()):
            last = live.entry(kind, name, occurrence, payload)
            live.started_at = self._commits.append(last)

        def committed(_: int) -> None:
            stored, whole = load()
            if stored.closed is not None:
                live.started, live.continuing = stored.started, False
                live.committed.set_result(None)
                self._close(live, Ending(last.kind, last.payload, live.started_at, stored.closed))
            else:
                self._take_over(live, stored, whole)

        last.after = committed
        return live

    def _take_over(self, live: Live, stored: Stored, whole: list[Event]) -> None:
        """The log has all that a fork begins with: its code goes on from there."""
        if self._stopped:
            return
        live.continuing = False
        history = standing(whole)
        turn = Turn.of(whole)
        if turn is not None and turn.begun is None:
            live.beginning = Beginning.of(history[0])
        elif (definition := self.releases.definition(live.workflow, live.origin)) is not None:
            live.run = self._run(live.key, definition, Beginning.of(history[0]), live.origin)
        if self._observer is not None:
            self._observer.execution_started(live.watched)
        self._go_on_from(live, stored, whole, history, turn, None)
        self._families.begun(live)
        while live.deferred and not live.busy:
            live.deferred.pop(0)()

    def _hand_over(self, live: Live, kept: Kept, whole: Sequence[Event]) -> None:
        """What a fork was given to go on with, as far as it has not had it."""
        for kind, name, number, payload, version in kept.outcomes:
            pending = live.code.pending.get((name, number))
            if pending is not None:
                give = partial(self._activities.reused, live, kind, pending, payload, version)
                if live.still:
                    live.held.append(give)
                else:
                    give()
        had = {(event.kind, event.name, event.occurrence) for event in whole}
        for letter in kept.letters:
            if letter[:3] not in had:
                self._post_again(live, letter.kind, letter.name, letter.payload)
