"""The queues of one engine: which executions wait, which have their turn, and who is next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from node.engine.errors import DuplicateRefused, PayloadError, UnknownQueue
from node.engine.events import RESERVED
from node.engine.queue_line import Choice, Gate, Line
from node.engine.queue_ticket import Ticket, Turn
from node.engine.timers import Timers

if TYPE_CHECKING:
    from node.engine.live import Live
    from node.engine.queue import Queue

#: The workflow whose executions keep whether a queue is paused.
KEEPER: Final = RESERVED + "queue"
#: Executions that a queue lets go in one turn of the loop.
AT_ONCE: Final = 50


@dataclass(frozen=True, slots=True)
class QueueView:
    """A queue as it is now. Limits are None where there is none, a rate's window in seconds;
    `oldest_since` is when the one began to wait that waits the longest, unix seconds.

    `declared` is false for one that the application no longer has: nothing of it goes.
    """

    name: str
    declared: bool
    paused: bool
    waiting: int
    running: int
    oldest_since: float | None
    next_at: float | None
    """When time alone lets the next one go, unix seconds."""
    concurrency: int | None
    rate: Mapping[str, Any] | None
    partition_concurrency: int | None
    partition_rate: Mapping[str, Any] | None
    duplicates: str


@dataclass(slots=True)
class _Place:
    """How one waits. `since` in unix milliseconds."""

    number: int
    since: int


class Queues:
    """Where executions wait for their turn.

    `now` gives unix milliseconds, `at` the time of the next commit. `let_go` is called with an
    execution that has its turn, and logs that; `is_paused` says whether a queue is held back.
    """

    def __init__(
        self,
        declared: Mapping[str, Queue],
        *,
        loop: asyncio.AbstractEventLoop,
        now: Callable[[], int],
        at: Callable[[], int],
        let_go: Callable[[Live], None],
        is_paused: Callable[[str], bool],
    ) -> None:
        self._declared = declared
        self._is_paused = is_paused
        self._loop = loop
        self._at = at
        self._let_go = let_go
        self._lines: dict[str, Line[Live]] = {}
        self._places: dict[Live, _Place] = {}
        self._keys: dict[tuple[str, str], Live] = {}
        self._number = 0
        self._open = False
        self._looking = False
        self._dirty: dict[str, None] = {}
        self._armed: dict[str, int] = {}
        self.timers: Timers[tuple[str, int]] = Timers(loop, now, self._due, self._wanted)

    # Tickets ----------------------------------------------------------------------------------

    def admit(self, ticket: Ticket) -> Ticket:
        """Itself. Raises UnknownQueue, PayloadError."""
        if ticket.queue not in self._declared:
            known = ", ".join(sorted(self._declared)) or "none"
            raise UnknownQueue(f"no queue {ticket.queue!r}; there are: {known}")
        return ticket.checked()

    def duplicate(self, ticket: Ticket) -> Live | None:
        """The execution, queued or running, that has the same deduplication key. Raises
        DuplicateRefused where the queue says so."""
        if ticket.dedup is None:
            return None
        live = self._keys.get((ticket.queue, ticket.dedup))
        queue = self._declared.get(ticket.queue)
        if live is not None and queue is not None and queue.duplicates == "reject":
            raise refused(ticket, live.key)
        return live

    # Coming and going -------------------------------------------------------------------------

    def enter(self, live: Live, ticket: Ticket, since: int) -> None:
        """It waits from here on; it may have its turn before this returns."""
        self._number += 1
        self._wait(live, ticket, _Place(self._number, since))
        self.look(ticket.queue)

    def restored(self, live: Live, turn: Turn, since: int) -> None:
        """It is open in the log, and stands there as `turn` says."""
        ticket = turn.ticket
        if turn.since is None:
            self._claim(live, ticket)
            self._line(ticket.queue).runs(live, ticket.partition)
        elif self._open:
            self.enter(live, ticket, since)
        else:
            self._wait(live, ticket, _Place(turn.since, since))

    def recover(self, newest: int, begun: Iterable[tuple[str, str | None, int]]) -> None:
        """Every open execution is here: go on. `begun` are the turns that the log has, with
        queue, partition and time, in its order, as far back as any rate counts."""
        self._number = newest
        for queue, partition, at in begun:
            self._line(queue).began(at, partition)
        self._open = True
        for name in list(self._lines):
            self.look(name)

    def leave(self, live: Live, ticket: Ticket) -> None:
        """Its end is on its way into the log, or it cannot go on: who is next?"""
        live.queued = False
        self._places.pop(live, None)
        if ticket.dedup is not None and self._keys.get((ticket.queue, ticket.dedup)) is live:
            del self._keys[ticket.queue, ticket.dedup]
        line = self._line(ticket.queue)
        if not line.discard(live):
            line.ended(live)
        self.look(ticket.queue)

    def hold(self, live: Live, ticket: Ticket) -> None:
        """It keeps its place, but others go before it."""
        self._line(ticket.queue).discard(live)

    def release(self, live: Live, ticket: Ticket) -> None:
        """It no longer holds back."""
        self._line(ticket.queue).add(
            live, ticket.priority, self._places[live].number, ticket.partition
        )
        self.look(ticket.queue)

    @property
    def busy(self) -> bool:
        """Whether somebody may have a turn as soon as the loop comes to it."""
        return bool(self._dirty)

    def stop(self) -> None:
        """Nobody goes from here on."""
        self._open = False
        self.timers.close()

    def _wait(self, live: Live, ticket: Ticket, place: _Place) -> None:
        live.queued = True
        self._places[live] = place
        self._claim(live, ticket)
        line = self._line(ticket.queue)
        if not live.paused:
            line.add(live, ticket.priority, place.number, ticket.partition)

    def _claim(self, live: Live, ticket: Ticket) -> None:
        if ticket.dedup is not None:
            self._keys.setdefault((ticket.queue, ticket.dedup), live)

    def _line(self, name: str) -> Line[Live]:
        line = self._lines.get(name)
        if line is None:
            queue = self._declared.get(name)
            line = Line() if queue is None else Line(queue.limits, queue.partition_limits)
            self._lines[name] = line
        return line

    # Turns ------------------------------------------------------------------------------------

    def look(self, name: str) -> None:
        """Give turns as long as there is somebody to have one."""
        self._dirty[name] = None
        # Who has a turn may end at once, or start others on a queue: not deeper, but after it.
        if self._looking or not self._open:
            return
        self._looking = True
        try:
            given = 0
            while self._dirty and given < AT_ONCE:
                name = next(iter(self._dirty))
                given += self._give(name)
        finally:
            self._looking = False
        if self._dirty:
            self._loop.call_soon(self.look, name)

    def _give(self, name: str) -> bool:
        """Whether somebody has got a turn of this queue."""
        line = self._line(name)
        stands = name not in self._declared or self._is_paused(name)
        choice: Choice[Live] = Choice(None, None) if stands else line.choose(self._at())
        if choice.item is None:
            del self._dirty[name]
            if choice.look_at is not None:
                self._arm(name, choice.look_at)
            return False
        live = choice.item
        del self._places[live]
        live.queued = False
        if line.partitions > 2 * (line.waiting + line.running) + 64:
            line.forget(self._at())
        self._let_go(live)
        return True

    def _arm(self, name: str, at: int) -> None:
        armed = self._armed.get(name)
        if armed is None or at < armed:
            self._armed[name] = at
            self.timers.add(at, (name, at))

    def _due(self, item: tuple[str, int]) -> None:
        name, at = item
        if self._armed.get(name) == at:
            del self._armed[name]
            self.look(name)

    def _wanted(self, item: tuple[str, int]) -> bool:
        name, at = item
        wants = self._line(name).waiting > 0 and not self._is_paused(name)
        return wants and self._armed.get(name) == at

    # What there is ----------------------------------------------------------------------------

    @property
    def waiting(self) -> list[Live]:
        """Everyone that waits, in no order."""
        return list(self._places)

    def views(self) -> list[QueueView]:
        """Every queue that is declared, or that somebody waits in, by name."""
        used = {name for name, line in self._lines.items() if line.waiting or line.running}
        return [self.view(name) for name in sorted(used | self._declared.keys())]

    def view(self, name: str) -> QueueView:
        """Raises UnknownQueue."""
        queue = self._declared.get(name)
        if queue is None and name not in self._lines:
            raise UnknownQueue(f"no queue {name!r}")
        line = self._line(name)
        waits = [self._places[live].since for live in self._places if _queue(live) == name]
        paused = self._is_paused(name)
        opens = line.gate.opens() if waits and queue is not None and not paused else None
        return QueueView(
            name=name,
            declared=queue is not None,
            paused=paused,
            waiting=len(waits),
            running=line.running,
            oldest_since=min(waits) / 1000 if waits else None,
            next_at=opens / 1000 if opens else None,
            concurrency=queue.concurrency if queue else None,
            rate=_rate(queue.limits.count, queue.limits.per) if queue else None,
            partition_concurrency=queue.partition_concurrency if queue else None,
            partition_rate=(
                _rate(queue.partition_limits.count, queue.partition_limits.per) if queue else None
            ),
            duplicates=queue.duplicates if queue else "existing",
        )

    def wait_of(self, live: Live, ticket: Ticket) -> tuple[int, int | None, str, dict[str, Any]]:
        """Since when one waits and until when at least, both unix milliseconds; what will let it
        go, in words and in detail."""
        line = self._line(ticket.queue)
        detail: dict[str, Any] = {
            "priority": ticket.priority,
            "waiting": line.waiting,
            "running": line.running,
        }
        if ticket.partition is not None:
            detail["partition"] = ticket.partition
        if not live.paused:
            detail["position"] = line.position(live)
        words, until = self._held_by(line, ticket, live.paused)
        return self._places[live].since, until, words, detail

    def _held_by(self, line: Line[Live], ticket: Ticket, paused: bool) -> tuple[str, int | None]:
        if ticket.queue not in self._declared:
            return f"an application that declares the queue {ticket.queue!r}", None
        if self._is_paused(ticket.queue):
            return f"resuming the queue {ticket.queue!r}", None
        if paused:
            return "its turn, once the execution is resumed", None
        gates = [(line.gate, f"queue {ticket.queue!r}")]
        if ticket.partition is not None:
            gates.append((line.gate_of(ticket.partition), f"partition {ticket.partition!r}"))
        for gate, whose in gates:
            found = _limit(gate, whose, self._at())
            if found is not None:
                return found
        return f"its turn in the queue {ticket.queue!r}, after those before it", None


def _limit(gate: Gate, whose: str, now: int) -> tuple[str, int | None] | None:
    opens, limits = gate.opens(), gate.limits
    if opens is None:
        return f"the end of one of {gate.running} that run: the concurrency of {whose}", None
    if opens > now:
        return f"the rate of {whose}: {limits.count} in {limits.per / 1000:g} s", opens
    return None


def _rate(count: int, per: int) -> dict[str, Any] | None:
    return {"count": count, "per": per / 1000} if count else None


def _queue(live: Live) -> str:
    ticket = live.origin.ticket
    return "" if ticket is None else ticket.queue


def keeper_of(queue: str) -> str:
    """The id of the execution that keeps whether this queue is paused."""
    return f"{KEEPER}.{queue}"


def refused(ticket: Ticket, key: str) -> DuplicateRefused:
    """The error of a second one with the same deduplication key."""
    return DuplicateRefused(
        f"execution {key!r} of the queue {ticket.queue!r} has the deduplication key"
        f" {ticket.dedup!r} and has not ended"
    )


def asked(
    default: Queue | None,
    queue: str | None,
    *,
    priority: int,
    dedup: str | None,
    partition: str | None,
) -> Ticket | None:
    """What a start on `queue`, or on the workflow's own, has; None for one on no queue.

    Raises PayloadError for what only a queue has.
    """
    name = queue if queue is not None else None if default is None else default.name
    if name is not None:
        return Ticket(name, priority, dedup, partition)
    if priority or dedup is not None or partition is not None:
        raise PayloadError(
            "a priority, a deduplication key and a partition are for a start on a queue",
            hint="Name a queue, or declare the workflow with one.",
        )
    return None
