"""The rules for the events of one execution, checked one event after the other."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from node.engine.beginning import Beginning
from node.engine.events import (
    BEGINNINGS,
    CLOSED_AS,
    CLOSING,
    GIVEN_UP,
    INTENTS,
    MESSAGES,
    NOTES,
    OUTCOMES,
    TIMER_STEP,
    UPDATE_ENDS,
    Event,
    Kind,
    opened,
)
from node.engine.forked import Forked, Kept
from node.engine.labels import change_in, changed, labels_in
from node.engine.queue_ticket import Ticket
from node.engine.schedule_state import CHANGED, SCHEDULE, State, check_execution
from node.engine.stream import check_chunk

#: Which intent each of these is about; the others are about a STEP.
_ABOUT = {
    Kind.TIMER_FIRED: Kind.TIMER,
    Kind.CHILD_COMPLETED: Kind.CHILD,
    Kind.CHILD_FAILED: Kind.CHILD,
    Kind.CHILD_CANCELLED: Kind.CHILD,
    Kind.EXTERNAL_COMPLETED: Kind.EXTERNAL,
    Kind.EXTERNAL_CANCELLED: Kind.EXTERNAL,
}
#: What happens to an execution whose code has not begun.
_WITHOUT_CODE = frozenset(
    {
        Kind.STARTED,
        Kind.RESTARTED,
        Kind.FORKED,
        Kind.ORIGIN,
        Kind.KEPT,
        Kind.DEQUEUED,
        Kind.SIGNAL,
        Kind.CANCEL,
        Kind.PAUSED,
        Kind.RESUMED,
        Kind.PINNED,
        Kind.UNPINNED,
        Kind.CANCELLED,
        Kind.TERMINATED,
    }
)


class Verified:
    """What the events have said about one execution so far. Every method raises ValueError,
    KeyError or TypeError for an event that breaks a rule."""

    def __init__(self) -> None:
        self.started = 0
        self.workflow = ""
        self.last = 0
        self.closed: int | None = None
        self.status = 0
        self.labels: dict[str, str] = {}
        """What it is labelled with. Those that a retry made void are still there."""
        self._began: Kind | None = None
        """The kind of the previous event if that began a history."""
        self._first = 0
        self._run = 0
        self._called: dict[str, int] = {}
        self._open: dict[tuple[str, int], Kind] = {}
        self._settled: set[tuple[str, int]] = set()
        self._received: dict[tuple[Kind, str], int] = {}
        self._keys: set[tuple[Kind, str, str]] = set()
        self._updates: dict[tuple[str, int], bool] = {}
        self._patches: set[str] = set()
        self._ended: set[str] = set()
        """The streams that its code has closed."""
        self._cancelled = False
        self._paused = False
        self._queue: str | None = None
        """The queue that it was started on."""
        self._queued = False
        """It waits for its turn there."""
        self._code = True
        """Its code has begun, or may."""
        self._forked: Forked | None = None
        self._heads = [Kind.ORIGIN, Kind.KEPT]
        """What a fork's next events are."""
        self._stands = 0
        """How many events that it has from another execution come next."""
        self._schedule: State | None = None
        """Where a schedule stands, if it keeps that."""

    def add(self, event: Event, back: int, cut: bool = False) -> None:
        """The next event, which is no REOPENED. `cut` says of a beginning that what came before
        it may have been removed."""
        if event.kind in (Kind.STARTED, Kind.FORKED):
            if self.last or back:
                raise ValueError("it starts an execution again")
        elif not self.last:
            if not cut or back or event.kind is not Kind.RESTARTED:
                raise ValueError("it comes before its execution's start")
            self.workflow = event.name
        elif self.closed is not None and event.kind is not Kind.RESTARTED:
            raise ValueError("it comes after its execution's end")
        else:
            self._link(event, back)
        self._apply(event, cut)

    def stand(self, event: Event, cut: bool) -> None:
        """An event that stands, though others around it are void; it was added before."""
        if event.kind is Kind.REOPENED:
            self.wait_again()
        else:
            self.workflow = self.workflow or event.name
            self._apply(event, cut)

    def wait_again(self) -> None:
        """It was opened again: in a queue it needs another turn."""
        self._queued = self._queue is not None
        self._heads, self._stands = [], 0

    def reopen(self, event: Event, back: int) -> int:
        """The end is taken back: the first sequence that is void."""
        self._link(event, back)
        cut = event.payload
        if self.closed is None or self.status == CLOSED_AS[Kind.COMPLETED]:
            raise ValueError("it opens an execution that did not fail")
        if not isinstance(cut, int) or not self._first < cut <= self.closed:
            raise ValueError(f"it takes back what is not there, from {cut!r} on")
        return cut

    def check_whole(self) -> None:
        """There are no more events. Raises ValueError when some must be missing."""
        if self._forked is not None and (self._heads or self._stands):
            raise ValueError("what it was forked with is not all there")

    def _link(self, event: Event, back: int) -> None:
        if event.sequence - back != self.last:
            raise ValueError(f"it does not follow event {self.last}")

    def _apply(self, event: Event, cut: bool) -> None:
        kind = event.kind
        before, self.last = self.last, event.sequence
        if self._forked is not None:
            self._inherit(event, before, cut)
        began, self._began = self._began, None
        if not self._code and kind not in _WITHOUT_CODE:
            raise ValueError("its code acts before its queue has let it go")
        if kind is Kind.STARTED:
            self.started = self._first = event.sequence
            self.workflow, self._began, self._run = event.name, kind, 1
            self._keep(event, False)
        elif kind is Kind.FORKED:
            self._fork(event)
        elif kind in BEGINNINGS:
            self._begin_again(event, cut)
        elif kind in CLOSING:
            self._close(event)
        elif kind is Kind.ORIGIN:
            if began is None:
                raise ValueError("it does not follow its execution's start")
            body = json.loads(str(event.payload))
            if not isinstance(body, dict):
                raise ValueError("it does not say where its execution comes from")
            check_execution(event.execution, body)
            if "pinned" in body and not isinstance(body.get("version"), str):
                raise ValueError("it is pinned to no version")
            self.labels = labels_in(body)
            ticket = Ticket.of(body)
            if ticket is not None:
                self._queue = ticket.queue
                # One that goes on with a new input has its turn already.
                self._queued = began is not Kind.CONTINUED
                begun = self._forked is not None and self._forked.begun
                self._code = not self._queued or begun
        elif kind is Kind.KEPT:
            if self._forked is None:
                raise ValueError("it is for a fork")
            Kept.read(event.payload)
        elif kind is Kind.DEQUEUED:
            if not self._queued:
                raise ValueError("it has a turn that it does not wait for")
            if json.loads(str(event.payload))["queue"] != self._queue:
                raise ValueError("it has its turn in another queue")
            self._queued, self._code = False, True
        elif kind is Kind.PINNED:
            if not isinstance(json.loads(str(event.payload)), str):
                raise ValueError("it is pinned to no version")
        elif kind is Kind.UNPINNED:
            if event.payload is not None:
                raise ValueError("it says to what it is not pinned any more")
        elif kind is Kind.PATCH:
            if event.name in self._patches or event.occurrence != 1:
                raise ValueError("it was taken before")
            self._patches.add(event.name)
        elif kind is Kind.CHUNK:
            self._publish(event)
        elif kind is Kind.LABELLED:
            if event.name != self.workflow or event.occurrence != 1:
                raise ValueError("it labels another execution")
            self.labels = changed(self.labels, change_in(event.payload))
        elif kind is Kind.CANCEL:
            if self._cancelled:
                raise ValueError("it was asked to stop before")
            self._cancelled = True
        elif kind in (Kind.PAUSED, Kind.RESUMED):
            if self._paused is (kind is Kind.PAUSED):
                raise ValueError("it changes nothing")
            if event.payload is not None and not isinstance(json.loads(str(event.payload)), str):
                raise ValueError("its reason is no text")
            self._paused = not self._paused
        elif kind in MESSAGES:
            self._message(event)
        elif kind in UPDATE_ENDS:
            self._answer(event)
        elif kind in INTENTS:
            self._intend(event)
        else:
            self._step(event)

    def _fork(self, event: Event) -> None:
        beginning = Beginning.of(event)
        forked = beginning.forked
        if forked is None or beginning.run != 1:
            raise ValueError("it does not say what it was forked from")
        if any(count < 0 for count, _ in forked.times) or forked.begun > bool(forked.times):
            raise ValueError("it does not say what stands")
        if sum(one.commits for one in forked.past) != len(forked.times):
            raise ValueError("it does not say whose it was that stands")
        self.started = self._first = event.sequence
        self.workflow, self._began, self._run = event.name, event.kind, 1
        self._called, self._received = dict(beginning.counts), dict(beginning.posted)
        self._keys, self._paused = set(beginning.keys), beginning.paused
        self._forked, self._stands = forked, forked.events

    def _inherit(self, event: Event, before: int, cut: bool) -> None:
        """A fork's first events are in one commit, one after the other."""
        if cut and event.kind in BEGINNINGS:
            # What it began with was removed, or the rest of it.
            self._heads, self._stands = [], 0
        if self._heads:
            if event.kind is not self._heads.pop(0) or event.sequence != before + 1:
                raise ValueError("it is not what a fork begins with")
        elif event.kind is Kind.KEPT:
            raise ValueError("it is for a fork's beginning")
        elif self._stands:
            if event.sequence != before + 1:
                raise ValueError("it does not follow what the fork begins with")
            self._stands -= 1

    def _begin_again(self, event: Event, cut: bool) -> None:
        beginning = Beginning.of(event)
        restarts = event.kind is Kind.RESTARTED
        if event.name != self.workflow:
            raise ValueError("it does not go on from where its execution was")
        if cut:
            self._follow_gap(beginning)
        else:
            self._follow_history(beginning, restarts)
        if restarts:
            self.started, self.closed, self.status = event.sequence, None, 0
        self._keep(event, cut)
        self.labels = {}
        self._run = beginning.run
        self._first = event.sequence
        self._began = event.kind
        self._keys = set(beginning.keys)
        self._cancelled, self._paused = False, beginning.paused
        self._queue, self._queued, self._code = None, False, True
        self._forked = None
        self._open.clear()
        self._patches.clear()
        self._updates.clear()
        self._ended.clear()

    def _follow_history(self, beginning: Beginning, restarts: bool) -> None:
        if restarts and self.closed is None:
            raise ValueError("it starts an execution that is open")
        if beginning.run != self._run + 1:
            raise ValueError("it does not go on from where its execution was")
        if beginning.counts != self._called or beginning.posted != self._received:
            raise ValueError("it does not go on counting where its execution was")
        if not restarts and not self._keys.issuperset(beginning.keys):
            raise ValueError("it has keys of messages that did not arrive")
        if not restarts and beginning.paused is not self._paused:
            raise ValueError("it does not say whether it is paused")

    def _follow_gap(self, beginning: Beginning) -> None:
        """Histories before it were removed: it can only have counted further than they did."""
        if beginning.run <= self._run:
            raise ValueError("it does not go on from where its execution was")
        behind = any(beginning.counts.get(name, 0) < n for name, n in self._called.items())
        if behind or any(beginning.posted.get(what, 0) < n for what, n in self._received.items()):
            raise ValueError("it does not go on counting where its execution was")
        self._called, self._received = dict(beginning.counts), dict(beginning.posted)

    def _keep(self, event: Event, cut: bool) -> None:
        """A history begins, perhaps that of a schedule's keeper."""
        if event.name == SCHEDULE:
            state = State.begun(Beginning.of(event))
            if event.kind is Kind.CONTINUED and not cut and state != self._schedule:
                raise ValueError("it does not go on from where its schedule was")
            self._schedule = state

    def _close(self, event: Event) -> None:
        if event.name != self.workflow:
            raise ValueError("it ends another workflow")
        if event.kind is Kind.CANCELLED and not self._cancelled:
            raise ValueError("nobody asked it to stop")
        self.closed, self.status = event.sequence, CLOSED_AS[event.kind]

    def _message(self, event: Event) -> None:
        count = (event.kind, event.name)
        value, key = opened(event.payload)
        if self._schedule is not None and event.name == CHANGED:
            self._schedule = self._schedule.after(json.loads(value))
        if event.occurrence != self._received.get(count, 0) + 1:
            raise ValueError("it is out of order")
        self._received[count] = event.occurrence
        if key is not None:
            if (*count, key) in self._keys:
                raise ValueError("it arrived before, with the same key")
            self._keys.add((*count, key))
        if event.kind is Kind.UPDATE:
            self._updates[event.name, event.occurrence] = False

    def _publish(self, event: Event) -> None:
        check_chunk(event)
        if event.occurrence != 1:
            raise ValueError("it is out of order")
        if event.name in self._ended:
            raise ValueError("its stream is closed")
        if "end" in json.loads(str(event.payload)):
            self._ended.add(event.name)

    def _answer(self, event: Event) -> None:
        step = (event.name, event.occurrence)
        if step not in self._updates:
            raise ValueError("it answers no update")
        if self._updates[step]:
            raise ValueError("it is a second answer")
        self._updates[step] = True

    def _intend(self, event: Event) -> None:
        kind, name = event.kind, event.name
        if (kind is Kind.TIMER) != (name == TIMER_STEP):
            raise ValueError("it is no name for it")
        if (kind is Kind.TIMER) != isinstance(event.payload, int):
            raise ValueError("it has a payload of the wrong kind")
        if event.occurrence != self._called.get(name, 0) + 1:
            raise ValueError("it is out of order")
        if kind is Kind.CHILD:
            body = json.loads(str(event.payload))
            if not isinstance(body["id"], str) or not isinstance(body["input"], dict):
                raise ValueError("it does not say which child")
        self._called[name] = event.occurrence
        self._open[name, event.occurrence] = kind

    def _step(self, event: Event) -> None:
        step = (event.name, event.occurrence)
        if step not in self._open:
            raise ValueError("it has no intent")
        if self._open[step] is not _ABOUT.get(event.kind, Kind.STEP):
            raise ValueError("it is no outcome of that step")
        if event.kind in OUTCOMES:
            if step in self._settled:
                raise ValueError("it is a second outcome")
            self._settled.add(step)
        elif event.kind not in NOTES | GIVEN_UP:
            raise ValueError("it has no place here")
        elif event.kind in (Kind.STEP_CHUNK, Kind.STEP_VERSION):
            if event.kind is Kind.STEP_CHUNK:
                check_chunk(event)
            elif not isinstance(event.payload, str) or not event.payload:
                raise ValueError("it is no version")
            if step in self._settled:
                raise ValueError("its step is over")


def verify_execution(events: Iterable[Event]) -> None:
    """Check all the events of one execution, in order. Raises ValueError, which names the first
    that breaks a rule."""
    kept: list[tuple[Event, int]] = []
    found, last = Verified(), 0
    for event in events:
        back = event.sequence - last if last else 0
        try:
            if event.sequence <= last:
                raise ValueError(f"it does not follow event {last}")
            if event.kind is Kind.REOPENED:
                cut = found.reopen(event, back)
                kept = [one for one in kept if one[0].sequence < cut]
                found = _stood(kept, event)
            else:
                found.add(event, back)
            kept.append((event, back))
        except (ValueError, KeyError, TypeError) as error:
            words = f"event {event.sequence} ({event.kind.name.lower()} {event.name}"
            raise ValueError(f"{words} #{event.occurrence}): {error}") from None
        last = event.sequence
    if not last:
        raise ValueError("there are no events")
    found.check_whole()


def _stood(kept: Sequence[tuple[Event, int]], reopened: Event) -> Verified:
    found = Verified()
    for past, _ in kept:
        # An archive is whole: nothing was removed from it.
        found.stand(past, False)
    found.wait_again()
    found.last = reopened.sequence
    return found
