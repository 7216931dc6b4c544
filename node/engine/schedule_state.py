"""Where a schedule stands, and how each change that the log holds moves it on.

Whatever needs a clock or a calendar was decided before a change was logged, so that the log alone
says where a schedule stands, also with another calendar. Moments are unix milliseconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from node.engine.beginning import Beginning
from node.engine.events import RESERVED, Event, Kind, opened
from node.engine.live import scheduled
from node.engine.schedule import WHEN

#: The workflow whose executions keep where a schedule stands.
SCHEDULE: Final = RESERVED + "schedule"
#: The name of the signals that tell a keeper what has changed.
CHANGED: Final = "litefleet.change"
#: How many of the last things it did a schedule knows.
RECENT: Final = 10
Change = dict[str, Any]


def keeper_of(schedule: str) -> str:
    """The id of the execution that keeps where a schedule stands."""
    return f"{SCHEDULE}:{schedule}"


def execution_of(schedule: str, at: int, key: str | None = None) -> str:
    """The id of the execution of a tick, or of what was triggered with a key."""
    if key is not None:
        return f"{schedule}:trigger:{key}"
    return f"{schedule}:{datetime.fromtimestamp(at // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def check_execution(execution: str, body: dict[str, Any]) -> None:
    """Raises ValueError where an execution is not that of the tick which started it, by what its
    ORIGIN event's payload says."""
    said = scheduled(body)
    if said is None or execution == execution_of(*said):
        return
    if not execution.startswith(execution_of(said[0], 0, "")):
        raise ValueError("it is not the execution of that tick")


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits: one tick or trigger at `at`, or with `to` the ticks after `at` up to `to`.

    `why` is `tick` (it came while another one ran), `late` (it was missed) or `asked`. `beside`
    says that it waits for nobody. `key` is what the same request has in
    common. `when` is what ticks it is about, if not the schedule's own.
    """

    why: str
    at: int
    to: int | None = None
    key: str | None = None
    beside: bool = False
    when: Mapping[str, Any] | None = None

    @staticmethod
    def read(body: Mapping[str, Any]) -> Waiting:
        """The reverse of `body`. Raises KeyError, TypeError, ValueError."""
        one = Waiting(**body)
        if one.why not in ("tick", "late", "asked") or not isinstance(one.at, int):
            raise ValueError("it does not say what waits")
        if one.to is not None and one.to <= one.at:
            raise ValueError("what waits ends before it begins")
        return one

    @property
    def trigger(self) -> str | None:
        """The key of what was triggered; None for ticks."""
        return self.key if self.to is None else None

    def body(self) -> dict[str, Any]:
        """What the log holds of it."""
        body: dict[str, Any] = {"why": self.why, "at": self.at}
        if self.to is not None:
            body["to"] = self.to
        if self.key is not None:
            body["key"] = self.key
        if self.beside:
            body["beside"] = True
        if self.when is not None:
            body["when"] = dict(self.when)
        return body


@dataclass(frozen=True, slots=True)
class State:
    """Where one schedule stands. `upto` is the high-water mark: what becomes of every tick up to
    there is settled, or is in `waiting`."""

    spec: Mapping[str, Any]
    upto: int
    declared: bool = False
    """The application declares it, or did."""
    retired: bool = False
    """It does not any more."""
    paused: str | None = None
    """Why; None when it is not."""
    runs: int = 0
    """Ticks that happened, those that were late included."""
    skipped: int = 0
    """Ticks that did not, because of others."""
    waiting: tuple[Waiting, ...] = ()
    recent: tuple[Mapping[str, Any], ...] = ()
    """The last things that it did, as the log has them."""
    deleted: bool = field(default=False, compare=False)

    @staticmethod
    def read(body: Mapping[str, Any]) -> State:
        """The reverse of `body`. Raises KeyError, TypeError, ValueError."""
        waiting = tuple(Waiting.read(one) for one in body.get("waiting", ()))
        rest = {"waiting": waiting, "recent": tuple(body.get("recent", ()))}
        state = State(**{**body, **rest})
        if not isinstance(state.spec, dict) or not isinstance(state.upto, int):
            raise ValueError("it does not say where its schedule stands")
        return state

    @staticmethod
    def begun(beginning: Beginning) -> State:
        """Where it stood at a beginning of its keeper. Raises KeyError, TypeError, ValueError."""
        state = State.read(json.loads(beginning.input)["state"])
        for name, value in beginning.signals:
            if name == CHANGED:
                state = state.after(json.loads(value))
        return state

    @staticmethod
    def of(history: Sequence[Event]) -> State:
        """Where it stands, by the standing events of its keeper. Raises like `begun`."""
        state = State.begun(Beginning.of(history[0]))
        for event in history:
            if event.kind is Kind.SIGNAL and event.name == CHANGED:
                state = state.after(json.loads(opened(event.payload)[0]))
        return state

    def body(self) -> dict[str, Any]:
        """What the log holds of it."""
        body: dict[str, Any] = {"spec": dict(self.spec), "upto": self.upto}
        for name in ("declared", "retired", "runs", "skipped"):
            if getattr(self, name):
                body[name] = getattr(self, name)
        if self.paused is not None:
            body["paused"] = self.paused
        if self.waiting:
            body["waiting"] = [one.body() for one in self.waiting]
        if self.recent:
            body["recent"] = [dict(one) for one in self.recent]
        return body

    def after(self, change: Change) -> State:
        """How it stands after a change. Raises KeyError, TypeError, ValueError for one that
        cannot be."""
        apply = _CHANGES.get(change["do"])
        if apply is None or self.deleted:
            raise ValueError("it is no change of a schedule")
        try:
            return apply(self, change)
        except IndexError:
            raise ValueError("it is about what does not wait") from None

    def _noted(self, change: Change, key: str | None = None) -> State:
        about = {"do": change["do"], "at": change["at"]}
        if key is not None:
            about["key"] = key
        if "why" in change:
            about["why"] = change["why"]
        return replace(self, recent=(*self.recent, about)[-RECENT:])

    def _without(self, number: int) -> tuple[Waiting, ...]:
        return (*self.waiting[:number], *self.waiting[number + 1 :])

    def _reached(self, to: int) -> State:
        """The high-water mark only goes up."""
        if to <= self.upto:
            raise ValueError("its tick was settled before")
        return replace(self, upto=to)


def _settle(state: State, change: Change) -> State:
    """One tick or trigger begins (`run`), is there already (`have`) or cannot begin (`fail`):
    it has just come, or it is the next one of what waits (`item`)."""
    at, number = int(change["at"]), change.get("item")
    if number is None:
        moved, counts, key = state._reached(at), True, None
    else:
        item = state.waiting[number]
        counts, key = item.why != "asked", item.trigger
        if item.to is not None and not item.at < at <= item.to:
            raise ValueError("it is no tick of what waits")
        if item.to is None and item.at != at:
            raise ValueError("it is not what waits")
        if item.to is None or "last" in change:
            moved = replace(state, waiting=state._without(number))
        else:
            moved = replace(state, waiting=_replaced(state, number, replace(item, at=at)))
    if change["do"] == "run" and counts:
        moved = replace(moved, runs=moved.runs + 1)
    return moved._noted(change, key)


def _replaced(state: State, number: int, item: Waiting) -> tuple[Waiting, ...]:
    return (*state.waiting[:number], item, *state.waiting[number + 1 :])


def _skip(state: State, change: Change) -> State:
    """A tick does not happen, because of another one."""
    moved = state._reached(int(change["at"]))
    return replace(moved, skipped=moved.skipped + 1)._noted(change)


def _wait(state: State, change: Change) -> State:
    """A tick waits for what runs; `first` in the place of the one that waits, before all else."""
    at = int(change["at"])
    moved = state._reached(at)
    if "first" not in change:
        return replace(moved, waiting=(*moved.waiting, Waiting("tick", at)))
    others = tuple(one for one in moved.waiting if one.why != "tick")
    dropped = len(moved.waiting) - len(others)
    moved = replace(moved, skipped=moved.skipped + dropped)
    return replace(moved, waiting=(Waiting("tick", at), *others))


def _late(state: State, change: Change) -> State:
    """The ticks up to a moment were missed, and happen one after the other."""
    to = int(change["to"])
    last = state.waiting[-1] if state.waiting else None
    moved = state._reached(to)
    if last is not None and last.why == "late" and last.when is None and last.to == state.upto:
        return replace(moved, waiting=(*state.waiting[:-1], replace(last, to=to)))
    item = Waiting("late", state.upto, to, beside="beside" in change)
    return replace(moved, waiting=(*state.waiting, item))


def _miss(state: State, change: Change) -> State:
    """The ticks from `at` up to `to` are too old to happen."""
    return state._reached(int(change["to"]))._noted(change)


def _pass(state: State, change: Change) -> State:
    """What waits has no tick up to `at` that has not happened."""
    item = state.waiting[change["item"]]
    at = int(change["at"])
    if item.to is None or not item.at < at <= item.to:
        raise ValueError("it is no tick of what waits")
    return replace(state, waiting=_replaced(state, change["item"], replace(item, at=at)))


def _drop(state: State, change: Change) -> State:
    """What waits has nothing more that could happen."""
    _ = state.waiting[change["item"]]
    return replace(state, waiting=state._without(change["item"]))


def _ask(state: State, change: Change) -> State:
    """Somebody asks for something to happen."""
    item = Waiting.read(change["what"])
    if item.why != "asked":
        raise ValueError("it was not asked for")
    return replace(state, waiting=(*state.waiting, item))


def _pause(state: State, change: Change) -> State:
    return replace(state, paused=str(change["note"]))


def _resume(state: State, change: Change) -> State:
    """Go on; ticks up to `to` are not made up for."""
    return replace(state, paused=None, upto=max(state.upto, int(change["to"])))


def _update(state: State, change: Change) -> State:
    """Another spec; what waits stays what it is. Ticks up to `to` were the old one's."""
    spec = change["spec"]
    when = {name: state.spec[name] for name in WHEN if name in state.spec}
    waiting = state.waiting
    if when != {name: spec[name] for name in WHEN if name in spec}:
        waiting = tuple(
            replace(one, when=when) if one.to is not None and one.when is None else one
            for one in waiting
        )
    return replace(
        state,
        spec=dict(spec),
        waiting=waiting,
        upto=max(state.upto, int(change["to"])),
        declared="declared" in change,
        retired=False,
    )


def _retire(state: State, change: Change) -> State:
    """The application does not declare it any more."""
    return replace(state, retired=True, waiting=())


def _delete(state: State, change: Change) -> State:
    return replace(state, deleted=True)


_CHANGES: Final = {
    "run": _settle,
    "have": _settle,
    "fail": _settle,
    "skip": _skip,
    "wait": _wait,
    "late": _late,
    "miss": _miss,
    "pass": _pass,
    "drop": _drop,
    "ask": _ask,
    "pause": _pause,
    "resume": _resume,
    "update": _update,
    "retire": _retire,
    "delete": _delete,
}
