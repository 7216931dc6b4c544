"""The schedules of one engine: what time, a message or an end makes of them.

Where each stands is in the log: as the state that an execution of the engine's own began with,
its keeper, and the changes that this one was told since. What a change starts is in the same
commit, so that a tick happens once, wherever its engine is stopped.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from node.engine.beginning import compact, restarted, standing
from node.engine.errors import EngineError, ExecutionConflict, UnknownSchedule, UnknownWorkflow
from node.engine.events import Event, Kind, Status, letter, opened
from node.engine.families import check_id
from node.engine.live import Live, Origin
from node.engine.queue_ticket import Ticket
from node.engine.schedule import Overlap, Schedule, ScheduleSpec
from node.engine.schedule_plan import Plan
from node.engine.schedule_state import (
    CHANGED,
    SCHEDULE,
    Change,
    State,
    execution_of,
    keeper_of,
)
from node.engine.store import Stored
from node.engine.timers import Timers

if TYPE_CHECKING:
    from node.engine.executor import Executor

logger = logging.getLogger(__name__)

#: Changes that are made in one turn of the loop.
AT_ONCE: Final = 50
#: While the engine's schedules are off, only what was asked for happens.
_OFF: Final = "the engine's schedules are off"


class Unchanged(EngineError):
    """There is nothing to change."""


@dataclass(slots=True, eq=False)
class Held:
    """A schedule in memory."""

    id: str
    live: Live
    """Its keeper."""
    state: State
    plan: Plan
    newest: int = 0
    """The newest event of its keeper that the log had when it was opened."""
    running: set[str] = field(default_factory=set)
    """The ids of its executions that are open."""
    armed: int | None = None
    """When it is looked at next, because of the time."""


class Schedules:
    """Starts what is scheduled. `now` gives unix milliseconds, `at` the time of the next commit;
    `find` and `history` look into the log; `on` is whether time starts anything; `on_broken` hears
    of a mistake of ours."""

    def __init__(
        self,
        executor: Executor,
        declared: Mapping[str, Schedule],
        *,
        loop: asyncio.AbstractEventLoop,
        now: Callable[[], int],
        at: Callable[[], int],
        find: Callable[[str], Stored | None],
        history: Callable[[Stored], list[Event]],
        lineage: str,
        on: bool,
        on_broken: Callable[[BaseException], None],
    ) -> None:
        self._executor = executor
        self._declared = declared
        self._loop = loop
        self._at = at
        self._find = find
        self._history = history
        self._lineage = lineage
        self._on = on
        self._on_broken = on_broken
        self._held: dict[str, Held] = {}
        self._open = False
        self._looking = False
        self._dirty: dict[str, None] = {}
        self.timers: Timers[tuple[str, int]] = Timers(loop, now, self._due, self._wanted)

    # Coming and going -------------------------------------------------------------------------

    def restored(self) -> None:
        """Every open execution is here, but nobody has heard of what has just ended."""
        for live in self._executor.live.values():
            self.began(live)

    def recover(self) -> None:
        """Go on, with what the application declares now."""
        self._open = True
        for held in self._held.values():
            self._pause_if_failed(held)
        self._declare()
        for id in list(self._held):
            self.look(id)

    def kept(self, live: Live, history: Sequence[Event]) -> None:
        """A keeper is open in the log; `history` is what stands of it."""
        try:
            self._hold(live, State.of(history), history[-1].sequence)
        except (ValueError, KeyError, TypeError) as error:
            logger.error("the schedule of %s does nothing: it cannot be read: %s", live.key, error)

    def reopened(self, live: Live, again: Iterable[Event]) -> None:
        """A keeper that had ended goes on, and is told these once more."""
        held = self._held.get(live.key.removeprefix(keeper_of("")))
        if held is not None:
            for event in again:
                held.state = held.state.after(json.loads(opened(event.payload)[0]))
            self._find_running()
            self.look(held.id)

    def _find_running(self) -> None:
        for live in self._executor.live.values():
            if not _has_ended(live):
                self.began(live)

    def _hold(self, live: Live, state: State, newest: int = 0) -> Held:
        id = live.key.removeprefix(keeper_of(""))
        held = self._held[id] = Held(id, live, state, self._plan(id, state), newest)
        return held

    def _plan(self, id: str, state: State) -> Plan:
        return Plan(ScheduleSpec.model_validate(state.spec), f"{self._lineage}:{id}")

    def began(self, live: Live) -> None:
        """An execution is open."""
        if live.origin.schedule is not None:
            held = self._held.get(live.origin.schedule[0])
            if held is not None:
                held.running.add(live.key)

    def ended(self, live: Live, kind: Kind) -> None:
        """The end of an execution is on its way into the log, or a keeper's is."""
        if live.workflow == SCHEDULE:
            self._held.pop(live.key.removeprefix(keeper_of("")), None)
        if live.origin.schedule is None:
            return
        held = self._held.get(live.origin.schedule[0])
        if held is not None:
            held.running.discard(live.key)
            if kind is Kind.FAILED:
                self._failed(held, live.key)
            self.look(held.id)

    def _failed(self, held: Held, execution: str) -> None:
        if held.plan.spec.pause_on_failure and held.state.paused is None and not held.live.over:
            self.put(held, lambda _: {"do": "pause", "note": f"execution {execution!r} failed"})

    def _pause_if_failed(self, held: Held) -> None:
        """A crash may have come between the end of an execution and what follows from it."""
        if not held.plan.spec.pause_on_failure or held.state.paused is not None:
            return
        for one in held.state.recent:
            stored = self._find(execution_of(held.id, one["at"], one.get("key")))
            failed = stored is not None and stored.status is Status.FAILED
            if failed and stored is not None and (stored.closed or 0) > held.newest:
                self._failed(held, stored.id)
                return

    def stop(self) -> None:
        """Nothing begins from here on."""
        self._open = False
        self.timers.close()

    # What the application declares ------------------------------------------------------------

    def _declare(self) -> None:
        for id, schedule in self._declared.items():
            body, held = schedule.spec.body(), self._held.get(id)
            if held is not None and held.live.trouble is not None:
                continue
            try:
                if held is None:
                    self.begin(id, State(body, self._at(), declared=True))
                elif held.state.spec != body or held.state.retired or not held.state.declared:
                    self.update(held, body, declared=True)
            except EngineError as error:
                logger.error("the schedule %s does nothing: %s", id, error)
        for held in self._held.values():
            gone = held.state.declared and held.id not in self._declared
            if gone and not held.state.retired and held.live.trouble is None:
                self.put(held, lambda _: {"do": "retire"})

    def begin(self, id: str, state: State) -> Held:
        """A new schedule, or one whose id had been used. Raises ExecutionConflict."""
        key, payload = keeper_of(id), compact({"state": state.body()})
        stored = self._find(key)
        if stored is None:
            live = self._executor.begin(key, SCHEDULE, payload)
        elif stored.workflow == SCHEDULE and key not in self._executor.live:
            history = standing(self._history(stored))
            live = self._executor.begin_again(stored, restarted(history, payload))
        else:
            raise ExecutionConflict(f"execution {key!r} exists", hint="Choose another id.")
        held = self._hold(live, state)
        if stored is not None:
            # What it started before may still run.
            self._find_running()
        self.look(id)
        return held

    def update(
        self, held: Held, body: Mapping[str, Any], *, declared: bool = False
    ) -> asyncio.Future[int]:
        """Another spec from now on. What is due by now is still the old one's."""
        if not held.state.retired:
            self._settle_time(held)

        def make(state: State) -> Change:
            change: Change = {"do": "update", "spec": dict(body), "to": self._at()}
            return change | {"declared": True} if declared else change

        return self.put(held, make)

    # Changes ----------------------------------------------------------------------------------

    def held(self, id: str) -> Held:
        """Raises UnknownSchedule, EngineStopped."""
        self._executor.refuse_when_stopped()
        held = self._held.get(id)
        if held is None or held.state.deleted:
            raise UnknownSchedule(f"no schedule {id!r}")
        return held

    def is_ending(self, keeper: Live, id: str) -> bool:
        """Whether the end of a schedule's keeper is on its way."""
        held = self._held.get(id)
        return _has_ended(keeper) or (held is not None and held.state.deleted)

    def all(self) -> Sequence[Held]:
        """Every schedule, by id. Raises EngineStopped."""
        self._executor.refuse_when_stopped()
        return sorted(
            (held for held in self._held.values() if not held.state.deleted),
            key=lambda held: held.id,
        )

    def put(self, held: Held, make: Callable[[State], Change]) -> asyncio.Future[int]:
        """Log a change, made from how it stands when its place in the log has come; the future is
        its sequence, or the EngineError that `make` raises."""

        def prepare() -> tuple[int, str]:
            change = make(held.state)
            held.state = held.state.after(change)
            if change["do"] == "update":
                held.plan = self._plan(held.id, held.state)
            self._dirty[held.id] = None
            if not self._looking:
                self._loop.call_soon(self._look)
            number = held.live.post.add(Kind.SIGNAL, CHANGED, None)
            return number, letter(compact(change), None)

        future = self._executor.post(held.live, Kind.SIGNAL, CHANGED, prepare)
        future.add_done_callback(_heard)
        return future

    # Looking ----------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether something may begin as soon as the loop comes to it."""
        return bool(self._dirty) and self._open

    def look(self, id: str) -> None:
        """Do what there is to do."""
        self._dirty[id] = None
        self._look()

    def _look(self) -> None:
        # What begins may end at once, which comes here again: not deeper, but after it.
        if self._looking or not self._open:
            return
        self._looking = True
        try:
            left = AT_ONCE
            while self._dirty and left:
                left -= 1
                held = self._held.get(next(iter(self._dirty)))
                if held is None or not self._step(held):
                    del self._dirty[next(iter(self._dirty))]
        except Exception as error:
            # Going on could leave ticks out for ever without a word.
            logger.exception("a schedule broke the engine")
            self._on_broken(error)
        finally:
            self._looking = False
        if self._dirty and self._open:
            self._loop.call_soon(self._look)

    def _step(self, held: Held) -> bool:
        """Make one change; False when there is none to make now."""
        if held.live.busy:
            held.live.deferred.append(partial(self.look, held.id))
            return False
        if held.live.over:
            return False
        state = held.state
        if not self._on and state.paused is None:
            state = replace(state, paused=_OFF)
        if held.plan.stops_others(state):
            self._stop_others(held)
        change = held.plan.decide(
            state, self._at(), len(held.running), partial(self._happened, held.id)
        )
        if change is None:
            self._arm(held, state)
            return False
        self._make(held, change)
        return True

    def _make(self, held: Held, change: Change) -> None:
        start: Callable[[], object] | None = None
        if change["do"] == "run":
            number = change.get("item")
            key = None if number is None else held.state.waiting[number].trigger
            try:
                start = self._prepared(held, change["at"], key)
            except EngineError as error:
                logger.warning("the schedule %s starts nothing: %s", held.id, error)
                change = {**change, "do": "fail", "why": str(error)[:300]}
        self.put(held, lambda _: change)
        if start is not None:
            start()

    def _prepared(self, held: Held, at: int, key: str | None) -> Callable[[], object]:
        """What starts it. Raises what is in the way."""
        spec = held.plan.spec
        definition = self._executor.definition(spec.workflow)
        if definition is None:
            raise UnknownWorkflow(f"no workflow {spec.workflow!r}")
        ticket = self._executor.ticket(spec.workflow, ticket_of(spec))
        payload = definition.codec.start(spec.input)
        id = execution_of(held.id, at, key)
        check_id(id)
        origin = Origin(ticket=ticket, schedule=(held.id, at))
        return partial(self._executor.begin, id, spec.workflow, payload, origin)

    def _happened(self, id: str, at: int) -> bool:
        return self.exists(execution_of(id, at))

    def exists(self, execution: str) -> bool:
        """Whether there is an execution of this id."""
        return execution in self._executor.live or self._find(execution) is not None

    def _stop_others(self, held: Held) -> None:
        for key in sorted(held.running):
            live = self._executor.live.get(key)
            if live is None:
                continue
            if held.plan.spec.overlap is Overlap.TERMINATE_OTHER:
                self._executor.terminate(live, compact("the next tick of its schedule has come"))
            else:
                self._executor.cancel(live, compact("the next tick of its schedule has come"))

    def _settle_time(self, held: Held) -> None:
        """Let the ticks that are due by now be what the spec says, before it changes."""
        while self._on and not (held.live.busy or held.live.over):
            due = held.plan.next(held.state)
            if due is None or due.at > self._at():
                return
            self._step(held)

    # Time -------------------------------------------------------------------------------------

    def _arm(self, held: Held, state: State) -> None:
        due = held.plan.next(state)
        at = None if due is None else due.at
        if held.armed != at:
            held.armed = at
            if at is not None:
                self.timers.add(at, (held.id, at))

    def _due(self, item: tuple[str, int]) -> None:
        id, at = item
        held = self._held.get(id)
        if held is not None and held.armed == at:
            held.armed = None
            self.look(id)

    def _wanted(self, item: tuple[str, int]) -> bool:
        held = self._held.get(item[0])
        return held is not None and held.armed == item[1]


def _heard(future: asyncio.Future[int]) -> None:
    """Not everybody who makes a change waits for it; an engine that stops refuses it."""
    if not future.cancelled():
        future.exception()


def _has_ended(live: Live) -> bool:
    """Whether its end is on its way into the log."""
    stands = live.continuing or live.queued or live.trouble is not None
    return live.ending or (live.over and not stands)


def ticket_of(spec: ScheduleSpec) -> Ticket | None:
    """The queue that it starts on, if it names one."""
    return None if spec.queue is None else Ticket(spec.queue, spec.priority, None, spec.partition)
