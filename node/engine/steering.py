"""Stopping open executions, holding them back, and opening closed ones again."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from node.engine.beginning import compact, standing
from node.engine.commits import Commits
from node.engine.durability import Proofs
from node.engine.events import MESSAGES, Event, Kind, Payload, Status, opened
from node.engine.families import Families
from node.engine.live import Live
from node.engine.queues import KEEPER, Queues, keeper_of
from node.engine.schedule_state import SCHEDULE
from node.engine.schedules import Schedules
from node.engine.store import Stored
from node.engine.telling import Telling
from node.engine.writer import Entry

logger = logging.getLogger(__name__)


class Steering(Telling):
    """What is done to executions from outside, without their code having asked.

    `on_started` is called with an execution's workflow and the status that it had before it is
    open, None for a new one.
    """

    _families: Families
    queues: Queues
    schedules: Schedules

    def __init__(
        self,
        *,
        commits: Commits,
        proofs: Proofs,
        on_started: Callable[[str, Status | None], None],
    ) -> None:
        super().__init__(commits=commits, proofs=proofs)
        self._on_started = on_started
        self._later: deque[Callable[[], None]] = deque()
        # Held until `recover`: families are settled when all of their members are here.
        self._depth = 1

    @abstractmethod
    def restore(self, stored: Stored, whole: Sequence[Event]) -> Live:
        """Go on with an execution that the log has open."""

    @abstractmethod
    def _closed(self, live: Live, kind: Kind, payload: Payload, at: int, sequence: int) -> None:
        """An execution's end is committed."""

    def _drain(self) -> None:
        """What concerns other executions comes when the one at hand stands still."""
        while self._later and not self._depth:
            self._depth += 1
            try:
                self._later.popleft()()
            finally:
                self._depth -= 1

    def cancel(
        self, live: Live, reason: Payload, done: Callable[[int], None] | None = None
    ) -> None:
        """Ask the code to stop, once. `done` is called with the sequence of that in the log, or
        with 0 when it changes nothing any more."""
        if live.continuing or live.in_transaction:
            live.deferred.append(partial(self.cancel, live, reason, done))
            return
        unbegun = live.queued and live.run is None
        if (live.over and not unbegun) or live.cancelled or live.ending:
            if done is not None:
                done(0)
            return
        live.cancelled = True
        if unbegun:
            self._commits.append(live.entry(Kind.CANCEL, live.workflow, 1, reason, done))
            self._end(live, Kind.CANCELLED, reason)
            return
        self._log_and_tell(live, Kind.CANCEL, (live.workflow, 1), reason, done)

    def terminate(self, live: Live, reason: Payload) -> None:
        """End an execution without asking its code. Its children end with it."""
        if live.continuing:
            live.deferred.append(partial(self.terminate, live, reason))
            return
        if live.ending or (live.over and live.trouble is None and not live.queued):
            return
        self._end(live, Kind.TERMINATED, reason)

    def _end(self, live: Live, kind: Kind, reason: Payload) -> None:
        """End an execution whose code has no part in that."""
        live.ending = True
        live.trouble = None
        if live.queued and live.origin.ticket is not None:
            # It leaves only after its family has heard of it, and the end of one of them may let
            # the next one go: that must not be this one.
            self.queues.hold(live, live.origin.ticket)
        self._commits.withdraw_calls(live.rowid)
        if live.run is not None:
            live.run.finished = True
        after = partial(self._closed, live, kind, reason, self._commits.at)
        self._commits.append(live.entry(kind, live.workflow, 1, reason, after))
        live.drop()
        self._later.append(partial(self._ended, live, kind, reason))
        self._drain()

    def _ended(self, live: Live, kind: Kind, payload: Payload) -> None:
        """An execution's end is in the next commit: its family, its queue and its schedule hear of
        it."""
        self._families.ended(live, kind, payload)
        if live.origin.ticket is not None:
            self.queues.leave(live, live.origin.ticket)
        if live.origin.schedule is not None or live.workflow == SCHEDULE:
            self.schedules.ended(live, kind)

    def pause(self, live: Live, reason: Payload = None) -> None:
        """Start no more attempts and tell the code of no more timers."""
        if not live.paused:
            live.paused = True
            self._commits.append(live.entry(Kind.PAUSED, live.workflow, 1, reason))
            if live.queued and live.origin.ticket is not None:
                self.queues.hold(live, live.origin.ticket)

    def resume(self, live: Live) -> None:
        """Go on with what was held back."""
        if live.paused:
            live.paused = False
            self._commits.append(live.entry(Kind.RESUMED, live.workflow, 1, None))
            if live.queued and live.origin.ticket is not None:
                self.queues.release(live, live.origin.ticket)
            else:
                self._go_on(live)
            if live.workflow == KEEPER:
                self.queues.look(live.key.removeprefix(keeper_of("")))

    def pin(self, live: Live, version: str | None) -> None:
        """Pin it to a version, or to none. The code that it has stays with it for now."""
        live.pin = version
        kind, payload = (
            (Kind.UNPINNED, None) if version is None else (Kind.PINNED, compact(version))
        )
        self._commits.append(live.entry(kind, live.workflow, 1, payload))

    def _go_on(self, live: Live) -> None:
        held, live.held = live.held, []
        for act in held:
            act()

    def retry(self, stored: Stored) -> Live:
        """Open an execution that ended without having completed, with its family, and try again.
        Raises what `Families.retry` does."""
        live = self._families.retry(stored)
        self._drain()
        return live

    def reopen(self, stored: Stored, whole: Sequence[Event], cut: int) -> Live:
        """Try a closed execution again from before the event `cut`; the messages that came after
        it are told again."""
        self._on_started(stored.workflow, stored.status)
        entry = Entry(stored.rowid, stored.id, Kind.REOPENED, stored.workflow, 1, cut)
        entry.head = stored.closed or 0
        at = self._commits.append(entry)
        event = Event(cut, stored.id, Kind.REOPENED, stored.workflow, 1, cut, at, cut)
        history = standing(whole)
        live = self.restore(stored, [*whole, event])
        for lost in history:
            if lost.sequence >= cut and lost.kind in MESSAGES:
                self._post_again(live, lost.kind, lost.name, str(lost.payload))
        if live.workflow == SCHEDULE:
            lost_ones = (one for one in history if one.sequence >= cut)
            self.schedules.reopened(live, [one for one in lost_ones if one.kind in MESSAGES])
        return live

    def _post_again(self, live: Live, kind: Kind, name: str, payload: str) -> None:
        if live.busy:
            live.deferred.append(partial(self._post_again, live, kind, name, payload))
            return
        unbegun = live.queued and live.run is None
        if unbegun:
            lost_for_good = kind is Kind.UPDATE
        else:
            lost_for_good = live.over or (
                kind is Kind.UPDATE and name not in live.code.messages.updates
            )
        if lost_for_good:
            words = f"the {kind.name.lower()} {name} is dropped"
            logger.warning(words, extra=live.about)
            return
        number = live.post.add(kind, name, opened(payload)[1])
        self._log_and_tell(live, kind, (name, number), payload)
