"""What an operator does to schedules, and what there is to see of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from node.engine.application import Application
from node.engine.commits import Commits
from node.engine.definition import Workflow, named
from node.engine.errors import (
    BadSchedule,
    DefinitionError,
    ScheduleConflict,
    UnknownSchedule,
    UnknownWorkflow,
)
from node.engine.executor import Executor
from node.engine.families import check_id
from node.engine.live import Origin
from node.engine.namespace import workflow
from node.engine.schedule import Manner, Overlap, ScheduleSpec, fitting
from node.engine.schedule_state import (
    CHANGED,
    RECENT,
    SCHEDULE,
    Change,
    State,
    Waiting,
    execution_of,
    keeper_of,
)
from node.engine.schedules import Held, Schedules, Unchanged, ticket_of
from node.engine.signals import Signal
from node.engine.store import Store

#: Changes that a keeper is told before it begins a new history.
PER_HISTORY: Final = 50
#: The ticks that a backfill may ask for.
MOST: Final = 10_000
#: The ticks to come that a view has.
COMING: Final = 5


# Made once: a signal's type is examined when it is.
_CHANGE: Final = Signal[Any](CHANGED)


@workflow(name=SCHEDULE)
async def _keeper(state: dict[str, Any]) -> None:
    """Where a schedule stands is what it began with and what it was told since."""
    now = State.read(state)
    for _ in range(PER_HISTORY):
        now = now.after(await workflow.receive(_CHANGE))
        if now.deleted:
            return
    workflow.continue_as_new(now.body())


def schedule_keepers(_: object) -> Iterable[Workflow[..., Any]]:
    """The workflow that keeps where a schedule stands."""
    return [_keeper]


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """A schedule as it is now. Moments are unix seconds.

    `status` is `active`, `paused`, `stopped` (the application declared it and does not any more),
    `over` (no tick will come) or `broken` (its own log cannot be followed). `upto` is the time up
    to which its ticks are settled, `next` the next ones: the time that each is for (`for`), and
    when it is to happen (`at`).
    """

    id: str
    status: str
    note: str | None
    """Why it is paused, or broken."""
    declared: bool
    spec: Mapping[str, Any]
    upto: float
    next: list[dict[str, float]]
    running: list[str]
    waiting: list[dict[str, Any]]
    runs: int
    skipped: int
    recent: list[dict[str, Any]]
    """The last things it did, newest first: `did` (`run`, `skip`, `miss`, `fail`, `have`: it
    was there before), `for`, and where there is one its `execution` with its `status`."""


class ScheduleControl:
    """The schedules of one engine. What changes something is in the log when it returns. Every
    method with an id raises UnknownSchedule, and EngineStopped."""

    def __init__(
        self, application: Application, executor: Executor, store: Store, commits: Commits
    ) -> None:
        self._application = application
        self._executor = executor
        self._schedules: Schedules = executor.schedules
        self._store = store
        self._commits = commits

    # Looking ----------------------------------------------------------------------------------

    def list(self) -> list[ScheduleView]:
        """All of them, by id, each with its next tick only, and the last thing it did."""
        return [self._view(held, 1, 1) for held in self._schedules.all()]

    def show(self, id: str) -> ScheduleView:
        """One of them."""
        return self._view(self._schedules.held(id))

    # Making -----------------------------------------------------------------------------------

    async def create(
        self, id: str, spec: Mapping[str, Any], *, paused: str | None = None
    ) -> tuple[ScheduleView, bool]:
        """A new schedule, and whether it is new: the same one again gives the one that is there.
        `paused` is why it is to begin paused.

        Raises BadSchedule, UnknownWorkflow, UnknownQueue, PayloadError, ScheduleConflict.
        """
        self._executor.refuse_when_stopped()
        body = self._checked(spec)
        try:
            named(id, "schedule")
        except DefinitionError as error:
            raise BadSchedule(str(error)) from None
        await self._gone(id)
        with suppress(UnknownSchedule):
            held = self._schedules.held(id)
            if held.state.spec != body or held.state.retired:
                raise ScheduleConflict(f"there is a schedule {id!r} already")
            await asyncio.shield(held.live.committed)
            return self._view(held), False
        state = State(body, self._commits.coming, paused=paused)
        held = self._schedules.begin(id, state)
        await asyncio.shield(held.live.committed)
        return self._view(held), True

    async def _gone(self, id: str) -> None:
        """One that was deleted may just be ending."""
        live = self._executor.live.get(keeper_of(id))
        if live is not None and self._schedules.is_ending(live, id):
            await live.closed.wait()
            self._executor.refuse_when_stopped()

    async def update(self, id: str, spec: Mapping[str, Any]) -> ScheduleView:
        """Another spec from now on; what was due before happens as it was. Raises what `create`
        raises."""
        held, body = self._own(id), self._checked(spec)
        if held.state.spec != body:
            await self._schedules.update(held, body)
        return await self._settled(held)

    async def delete(self, id: str) -> None:
        """Forget it. What it has started goes on. Raises ScheduleConflict for one that the
        application declares."""
        held = self._schedules.held(id)
        if held.state.declared and not held.state.retired:
            raise ScheduleConflict(
                f"the application declares the schedule {id!r}",
                hint="Pause it, or take it out of the application.",
            )
        await self._schedules.put(held, lambda _: {"do": "delete"})
        await held.live.closed.wait()
        self._executor.refuse_when_stopped()
        await self._commits.settled()

    # Steering ---------------------------------------------------------------------------------

    async def pause(self, id: str, note: str = "") -> bool:
        """Let no tick happen; what runs goes on. False when it is paused already."""

        def make(state: State) -> Change:
            if state.paused is not None:
                raise Unchanged("it is paused")
            return {"do": "pause", "note": note[:500]}

        return await self._put(self._schedules.held(id), make)

    async def resume(self, id: str) -> bool:
        """Go on from now; ticks of the time while it was paused do not happen. False when it is
        not paused."""

        def make(state: State) -> Change:
            if state.paused is None:
                raise Unchanged("it is not paused")
            return {"do": "resume", "to": self._commits.coming}

        return await self._put(self._schedules.held(id), make)

    async def trigger(
        self, id: str, *, key: str, overlap: Manner | None = None
    ) -> tuple[str, bool]:
        """Start it once more, now, also while it is paused: the execution's id, and whether this
        call asked for it first. With `buffer_all` it waits until nothing of it runs, as it does
        by default unless the schedule itself says `allow_all`.

        Raises ScheduleConflict when too much waits, PayloadError for a key that cannot be.
        """
        held = self._schedules.held(id)
        execution = execution_of(id, 0, key)
        check_id(execution)

        def make(state: State) -> Change:
            known = any(one.trigger == key for one in state.waiting)
            if known or self._schedules.exists(execution):
                raise Unchanged("it was triggered with this key")
            return self._ask(held, Waiting("asked", self._commits.coming, key=key), overlap)

        return execution, await self._put(held, make)

    async def backfill(
        self, id: str, start: float, end: float, *, overlap: Manner | None = None
    ) -> int:
        """Have the ticks from `start` to `end` (unix seconds, both included) happen that have
        not, in their order, one after the other; with `allow_all` all at once. How many ticks
        there are.

        Raises BadSchedule for a time that is to come, or with too many ticks.
        """
        held = self._schedules.held(id)
        first, last = round(start * 1000), round(end * 1000)
        if not first <= last <= self._commits.coming:
            raise BadSchedule("a backfill goes from one moment of the past to a later one")
        # It takes some 50 µs a tick, and everybody else goes on meanwhile.
        ticks = await asyncio.to_thread(held.plan.between, first, last, MOST + 1)
        held = self._schedules.held(id)
        if len(ticks) > MOST:
            raise BadSchedule(
                f"there are more than {MOST} ticks in that time", hint="Ask for less at once."
            )
        key = f"{first}-{last}"

        def make(state: State) -> Change:
            if any(one.key == key for one in state.waiting):
                raise Unchanged("it was asked for, and has not all happened")
            return self._ask(held, Waiting("asked", first - 1, last, key), overlap)

        if not all(self._schedules.exists(execution_of(id, at)) for at in ticks):
            await self._put(held, make)
        return len(ticks)

    def _ask(self, held: Held, what: Waiting, overlap: Manner | None) -> Change:
        limit = held.plan.spec.buffer_limit
        if sum(one.why == "asked" for one in held.state.waiting) >= limit:
            raise ScheduleConflict(
                f"{limit} requests wait for the schedule {held.id!r} already",
                hint="Wait until they have happened, or give it a larger buffer_limit.",
            )
        beside = (overlap or held.plan.spec.overlap) == Overlap.ALLOW_ALL
        body = what.body() | ({"beside": True} if beside else {})
        return {"do": "ask", "what": body}

    # ------------------------------------------------------------------------------------------

    async def _put(self, held: Held, make: Any) -> bool:
        try:
            await self._schedules.put(held, make)
        except Unchanged:
            await self._commits.settled()
            return False
        await self._commits.settled()
        return True

    async def _settled(self, held: Held) -> ScheduleView:
        await self._commits.settled()
        return self._view(held)

    def _own(self, id: str) -> Held:
        held = self._schedules.held(id)
        if held.state.declared and not held.state.retired:
            raise ScheduleConflict(
                f"the application declares the schedule {id!r}",
                hint="Change it there; pausing it is possible here.",
            )
        return held

    def _checked(self, values: Mapping[str, Any]) -> dict[str, Any]:
        spec = ScheduleSpec.of(values)
        definition = self._application.workflows.get(spec.workflow)
        if definition is None:
            known = ", ".join(sorted(self._application.workflows))
            raise UnknownWorkflow(f"no workflow {spec.workflow!r}; there are: {known}")
        self._executor.ticket(spec.workflow, Origin(), ticket_of(spec))
        return fitting(spec, definition).body()

    def _view(self, held: Held, next: int = COMING, recent: int = RECENT) -> ScheduleView:
        state, plan = held.state, held.plan
        coming = plan.coming(state, next)
        status, note = "active", state.paused
        if held.live.trouble is not None:
            status, note = "broken", held.live.trouble["message"]
        elif state.retired:
            status = "stopped"
        elif state.paused is not None:
            status = "paused"
        elif not coming:
            status = "over"
        return ScheduleView(
            id=held.id,
            status=status,
            note=note,
            declared=state.declared,
            spec=plan.spec.model_dump(mode="json"),
            upto=state.upto / 1000,
            next=[{"for": due.nominal / 1000, "at": due.at / 1000} for due in coming],
            running=sorted(held.running),
            waiting=[_waiting(one) for one in state.waiting],
            runs=state.runs,
            skipped=state.skipped,
            recent=[self._done(held.id, one) for one in state.recent[: -recent - 1 : -1]],
        )

    def _done(self, id: str, one: Mapping[str, Any]) -> dict[str, Any]:
        done: dict[str, Any] = {"did": one["do"], "for": one["at"] / 1000}
        if "why" in one:
            done["why"] = one["why"]
        if one["do"] in ("run", "have"):
            done["execution"] = execution_of(id, one["at"], one.get("key"))
            stored = self._store.find(done["execution"])
            done["status"] = None if stored is None else stored.status.value
        return done


def _waiting(one: Waiting) -> dict[str, Any]:
    shown: dict[str, Any] = {"why": one.why, "for": one.at / 1000}
    if one.to is not None:
        shown = {"why": one.why, "after": one.at / 1000, "to": one.to / 1000}
    if one.trigger is not None:
        shown["key"] = one.trigger
    return shown
