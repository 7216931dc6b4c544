"""What a schedule does next: pure, from where it stands and what time it is.

Moments are unix milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import Final

from node.engine.schedule import Overlap, ScheduleSpec, timing_of
from node.engine.schedule_state import Change, State, Waiting
from node.engine.timing import Timing

#: A tick that is looked at so many milliseconds after its time is in time. What is later was
#: missed, because nothing ran or the clock was put forward.
GRACE: Final = 10_000
#: Ticks that have happened already which are passed over in one change.
PASSED: Final = 200


@dataclass(frozen=True, slots=True)
class Due:
    """A tick: the time that it is for, and when it is to happen."""

    nominal: int
    at: int


class Plan:
    """What one schedule does. `seed` is what its jitter comes from, the same wherever it runs."""

    def __init__(self, spec: ScheduleSpec, seed: str) -> None:
        self.spec = spec
        self._timing = spec.timing
        self._seed = seed
        self._jitter = spec.jitter * 1000
        self._window = max(spec.catch_up_window * 1000, GRACE)
        self._stops = spec.overlap in (Overlap.CANCEL_OTHER, Overlap.TERMINATE_OTHER)
        self._start = -1 if spec.start_at is None else spec.start_at * 1000 - 1
        # Asked for again and again, and a calendar is slow.
        self._last: tuple[int, int | None] | None = None
        self._end = None if spec.end_at is None else spec.end_at * 1000

    # When -------------------------------------------------------------------------------------

    def after(self, at: int) -> int | None:
        """The first tick after a moment, within its bounds."""
        if self._last is not None and self._last[0] == at:
            return self._last[1]
        found = self._timing.after(max(at, self._start))
        if found is not None and self._end is not None and found > self._end:
            found = None
        self._last = (at, found)
        return found

    def due(self, nominal: int) -> Due:
        """When a tick is to happen: at most `jitter` later, and before the next one's time."""
        if not self._jitter:
            return Due(nominal, nominal)
        following = self._timing.after(nominal)
        most = self._jitter if following is None else min(self._jitter, following - nominal)
        text = f"{self._seed}:{nominal}".encode()
        part = int.from_bytes(blake2b(text, digest_size=8, person=b"jitter").digest()) / 2**64
        return Due(nominal, nominal + int(part * most))

    def next(self, state: State) -> Due | None:
        """The next tick that time alone brings; None when there is none."""
        if state.paused is not None or state.retired or self._used_up(state):
            return None
        nominal = self.after(state.upto)
        return None if nominal is None else self.due(nominal)

    def coming(self, state: State, count: int) -> list[Due]:
        """The next ticks, as far as nothing changes."""
        if state.paused is not None or state.retired:
            return []
        left = count if self.spec.max_runs is None else self.spec.max_runs - state.runs
        found: list[Due] = []
        at: int | None = state.upto
        while len(found) < min(count, left) and at is not None:
            at = self.after(at)
            if at is not None:
                found.append(self.due(at))
        return found

    def _used_up(self, state: State) -> bool:
        return self.spec.max_runs is not None and state.runs >= self.spec.max_runs

    # What -------------------------------------------------------------------------------------

    def decide(
        self, state: State, now: int, running: int, happened: Callable[[int], bool]
    ) -> Change | None:
        """The next change; None when only time, a message or the end of something that runs will
        bring one. `running` is how many of its executions are open; `happened` tells whether the
        execution of a tick is there already."""
        if state.deleted:
            return None
        due = self.next(state)
        if due is None or due.at > now:
            return self._on_waiting(state, running, happened)
        late = self._if_late(due.nominal, now)
        if late is not None:
            return late
        # In order, but where the newest counts, it need not begin what it would only stop.
        before = None if self._stops else self._on_waiting(state, running, happened)
        return before or self._in_time(state, due.nominal, running, happened)

    def _if_late(self, at: int, now: int) -> Change | None:
        too_old = now - self._window - self._jitter
        if at < too_old:
            return {"do": "miss", "at": at, "to": too_old - 1}
        missed = now - GRACE - self._jitter
        if at > missed:
            return None
        late: Change = {"do": "late", "to": missed}
        return late | {"beside": True} if self.spec.overlap is Overlap.ALLOW_ALL else late

    def _in_time(
        self, state: State, at: int, running: int, happened: Callable[[int], bool]
    ) -> Change:
        overlap = self.spec.overlap
        if happened(at):
            return {"do": "have", "at": at}
        if overlap is Overlap.ALLOW_ALL or not (running or state.waiting):
            return {"do": "run", "at": at}
        if self._stops:
            return {"do": "wait", "at": at, "first": True}
        places = {Overlap.BUFFER_ONE: 1, Overlap.BUFFER_ALL: self.spec.buffer_limit}
        taken = sum(one.why == "tick" for one in state.waiting)
        if taken < places.get(overlap, 0):
            return {"do": "wait", "at": at}
        return {"do": "skip", "at": at}

    def _on_waiting(
        self, state: State, running: int, happened: Callable[[int], bool]
    ) -> Change | None:
        for number, item in enumerate(state.waiting):
            if item.why != "asked":
                if state.paused is not None:
                    continue
                if self._used_up(state):
                    return {"do": "drop", "item": number}
            if running and not item.beside:
                # What comes after it may still be for now.
                continue
            return self._one_of(number, item, happened)
        return None

    def _one_of(self, number: int, item: Waiting, happened: Callable[[int], bool]) -> Change | None:
        if item.to is None:
            # A trigger that was asked for twice was refused before it came here.
            there = item.trigger is None and happened(item.at)
            return {"do": "have" if there else "run", "at": item.at, "item": number}
        timing = self._timing_of(item)
        at, passed = item.at, 0
        while (found := timing.after(at)) is not None and found <= item.to:
            at = found
            if not happened(at):
                change: Change = {"do": "run", "at": at, "item": number}
                following = timing.after(at)
                over = following is None or following > item.to
                return change | {"last": True} if over else change
            passed += 1
            if passed == PASSED:
                return {"do": "pass", "at": at, "item": number}
        return {"do": "drop", "item": number}

    def _timing_of(self, item: Waiting) -> Timing:
        if item.when is not None:
            return timing_of(item.when)
        return _Bounded(self) if item.why == "late" else self._timing

    def stops_others(self, state: State) -> bool:
        """Whether what runs is to end, because a newer tick waits for that."""
        paused = state.paused is not None
        return self._stops and not paused and any(one.why == "tick" for one in state.waiting)

    def between(self, start: int, end: int, most: int) -> list[int]:
        """The ticks from `start` to `end`, both included, whatever its bounds: at most `most`."""

        def ticks() -> Iterator[int]:
            at = self._timing.after(start - 1)
            while at is not None and at <= end:
                yield at
                at = self._timing.after(at)

        return list(islice(ticks(), most))


class _Bounded:
    """The ticks of a schedule within its bounds."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def after(self, at: int) -> int | None:
        return self._plan.after(at)
