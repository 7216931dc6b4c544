"""Open executions that go on with what the log has of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Final, cast

from node.engine.beginning import Beginning, Post, standing
from node.engine.branching import Branching
from node.engine.durability import Durability, effective
from node.engine.errors import EngineError
from node.engine.events import NOTES, Event, Kind
from node.engine.forked import Kept, Supply
from node.engine.live import Live, Origin
from node.engine.queue_ticket import Turn
from node.engine.releases import with_pin
from node.engine.run import Run
from node.engine.schedule_state import SCHEDULE
from node.engine.steps import Command, Step
from node.engine.store import Stored
from node.engine.timers import Timers

# Looking a member up in its enumeration takes 0.1 us, here for every open step of a start-up.
_STEP: Final = Kind.STEP
_TIMER: Final = Kind.TIMER


class Restoring(Branching):
    """How an execution that the log has open is replayed, and goes on."""

    _timers: Timers[tuple[Live, Step]]
    _floor: Durability
    _crashes: Callable[[int], int]

    @abstractmethod
    def knows(self, workflow: str, origin: Origin) -> bool:
        """Whether the version that an execution of this origin runs with has the workflow."""

    @abstractmethod
    def _carry_out(self, live: Live, commands: list[Command]) -> None:
        """Do what its code asks for."""

    def restore(self, stored: Stored, whole: Sequence[Event]) -> Live:
        """Go on with an execution that the log has open."""
        history = standing(whole)
        beginning = Beginning.of(history[0])
        given = str(stored.input)
        turn = Turn.of(whole)
        begun = turn is None or turn.begun is not None
        origin = with_pin(Origin.of(history), whole)
        live = self._admit(
            stored.id, stored.rowid, stored.workflow, given, beginning, origin, begun
        )
        self._go_on_from(live, stored, whole, history, turn, beginning.paused)
        return live

    def _go_on_from(
        self,
        live: Live,
        stored: Stored,
        whole: Sequence[Event],
        history: list[Event],
        turn: Turn | None,
        paused: bool | None,
    ) -> None:
        beginning = Beginning.of(history[0])
        live.post = Post.of(history)
        live.started, live.started_at = stored.started, stored.started_at
        live.forked_from = stored.forked_from
        seen = {event.kind for event in whole}
        if Kind.REOPENED in seen:
            live.reopened_at = max(event.at for event in whole if event.kind is Kind.REOPENED)
        if paused is not None:
            # One that began paused may have been resumed only.
            told = seen & {Kind.PAUSED, Kind.RESUMED}
            live.paused = _is_paused(paused, history) if told else paused
        live.cancelled = Kind.CANCEL in seen and Kind.CANCEL in {event.kind for event in history}
        if not live.committed.done():
            live.committed.set_result(None)
        if stored.workflow == SCHEDULE:
            self.schedules.kept(live, history)
        known = self.knows(stored.workflow, live.origin)
        if turn is not None and turn.begun is not None and (turn.since is None or known):
            self.queues.restored(live, turn, live.reopened_at or live.started_at)
        if not known:
            self._give_up(live, self.releases.missing(stored.workflow, live.origin))
            return
        if live.history is not None:
            live.history.clear()
            for event in history:
                if event.kind not in NOTES:
                    live.remember(*event[2:7])
                    if event.commit < 0:
                        # A fork's code was told it as somebody else.
                        live.history[-1] = live.history[-1]._replace(commit=event.commit)
        live.post = Post.of(history)
        if live.run is None:
            signals = (event for event in history if event.kind is Kind.SIGNAL)
            live.early = [(event.name, event.payload) for event in signals]
        kept = Kept.of(history) if beginning.forked is not None else None
        if kept is not None:
            live.kept = kept
            live.supply = Supply(kept.results, history) if kept.results else None
        if live.run is None:
            if turn is not None:
                # It may begin before this returns.
                self.queues.restored(live, turn, live.started_at)
            return
        began = perf_counter()
        try:
            commands = live.run.replay(history, strict=_strict(live.durability))
        except EngineError as error:
            self._give_up(live, error)
            return
        live.origin = replace(live.origin, labels=live.run.labels)
        for event in live.run.untold:
            self._wait_for_proof(live, event.kind, event.name, event.payload)
        self._commits.tally.replays.add(perf_counter() - began)
        fresh = {id(command.pending) for command in commands}
        waiting = [pending for pending in live.run.pending.values() if id(pending) not in fresh]
        self._carry_out(live, commands)
        if kept is not None:
            self._hand_over(live, kept, whole)
            waiting = [pending for pending in waiting if not live.keeps(pending.step)]
        for pending in waiting:
            if pending.kind is _TIMER:
                self._timers.add(cast(int, pending.payload), (live, pending.step))
            elif pending.kind is _STEP:
                crashes = self._crashes(pending.progress.sign)
                self._activities.launch_again(live, pending, crashes)

    def recover(self, begun: Iterable[tuple[str, str | None, int]]) -> None:
        """Every open execution is restored: settle what a crash has left between them. `begun`
        as for `Queues.recover`."""
        self.schedules.restored()
        self._depth -= 1
        self._drain()
        self._families.recover()
        self._drain()
        self.queues.recover(self._commits.sequence, begun)
        self.schedules.recover()

    def rehearse(self, stored: Stored, whole: Sequence[Event], *, unpinned: bool = False) -> Run:
        """The code of an execution as the log has it, beside the one that runs, to be looked at
        and dropped; `unpinned`, that of the current version. Raises UnknownWorkflow,
        VersionMissing, Divergence, DeterminismError."""
        history = standing(whole)
        origin = Origin() if unpinned else with_pin(Origin.of(history), whole)
        definition = self.releases.definition(stored.workflow, origin)
        if definition is None:
            raise self.releases.missing(stored.workflow, origin)
        run = self._run(stored.id, definition, Beginning.of(history[0]), Origin.of(history))
        run.replay(history, strict=_strict(effective(self._floor, definition.durability)))
        return run


def _strict(durability: Durability) -> bool:
    # With every_commit, outcomes are logged before the code is told.
    return durability is not Durability.EVERY_COMMIT


def _is_paused(paused: bool, history: Iterable[Event]) -> bool:
    for event in history:
        if event.kind in (Kind.PAUSED, Kind.RESUMED):
            paused = event.kind is Kind.PAUSED
    return paused
