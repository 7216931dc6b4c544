"""Parents and children: what the start and the end of one mean for the other."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from node.engine.beginning import compact, restarted, standing
from node.engine.context import LONGEST_ID
from node.engine.errors import (
    EngineError,
    ExecutionConflict,
    PayloadError,
    UnknownWorkflow,
    describe,
)
from node.engine.events import CLOSED_STATUS, RESERVED, Event, Kind, Payload, Status
from node.engine.fork_source import failed_at
from node.engine.labels import FIELD as LABELS
from node.engine.live import Live, Origin
from node.engine.queue_ticket import Ticket, queue_of
from node.engine.queues import refused
from node.engine.releases import with_pin
from node.engine.steps import Pending, Step
from node.engine.store import Stored

if TYPE_CHECKING:
    from node.engine.executor import Executor

logger = logging.getLogger(__name__)
_NOT_WAITED_FOR: Final = compact("its parent stopped waiting for it")


class Families:
    """The children of one engine's executions. `find` and `history` look into the log."""

    def __init__(
        self,
        executor: Executor,
        find: Callable[[str], Stored | None],
        history: Callable[[Stored], list[Event]],
    ) -> None:
        self._executor = executor
        self._find = find
        self._history = history

    def start(self, parent: Live, step: Step, payload: Payload) -> None:
        """Start the child that a CHILD event asks for."""
        body = json.loads(str(payload))
        key, detached = body["id"], "detached" in body

        def again() -> None:
            if detached or (parent.run is not None and step in parent.run.pending):
                self.start(parent, step, payload)

        if self._executor.waits_for_removal(key, again):
            return
        # What calls and what is called are of one version.
        pinned = parent.pin or parent.origin.pin
        pin = self._executor.releases.runs_on(parent) if pinned else None
        origin = Origin(parent.key, step, detached, pin=pin)
        try:
            check_id(key)
            ticket = self._executor.ticket(step[0], origin, Ticket.of(body))
            origin = replace(origin, ticket=ticket, labels=body.get(LABELS, {}))
            if self._had_before(parent, key, origin, body["input"]):
                return
            if key in self._executor.live or self._find(key) is not None:
                raise ExecutionConflict(f"execution {key!r} exists")
            if not self._executor.knows(step[0], origin):
                raise UnknownWorkflow(f"no workflow {step[0]!r}")
            if origin.ticket is not None:
                other = self._executor.queues.duplicate(origin.ticket)
                if other is not None:
                    raise refused(origin.ticket, other.key)
        except EngineError as error:
            if detached:
                logger.warning("it starts no child %r: %s", key, error, extra=parent.about)
            else:
                self._tell(parent, step, Kind.CHILD_FAILED, failed(key, Status.FAILED, error))
            return
        if not detached:
            parent.children.add(key)
        self._executor.begin(key, step[0], compact(body["input"]), origin)

    def _had_before(self, parent: Live, key: str, origin: Origin, given: Any) -> bool:
        """A retry of the parent calls the child that it had: run that again, under its id."""
        live = self._executor.live.get(key)
        stored = None if live is not None else self._find(key)
        if stored is not None and stored.closed is not None and stored.workflow == origin.step[0]:
            history = standing(self._history(stored))
            known = Origin.of(history)
            if (known.parent, known.step) == (origin.parent, origin.step):
                self._executor.begin_again(stored, restarted(history, compact(given)), origin)
                if not origin.detached:
                    parent.children.add(key)
                return True
        return False

    def retry(self, stored: Stored) -> Live:
        """Open an execution again that ended without having completed, and with it the children
        that it waits for and that ended so too: its REOPENED event says that they are to be
        tried, whichever of them a crash has left as they were.

        Raises UnknownWorkflow, VersionMissing, DuplicateRefused; then nothing has changed.
        """
        whole = self._history(stored)
        origin = with_pin(Origin.of(whole), whole)
        if not self._executor.knows(stored.workflow, origin):
            raise self._executor.releases.missing(stored.workflow, origin)
        ticket = queue_of(whole)
        other = None if ticket is None else self._executor.queues.duplicate(ticket)
        if ticket is not None and other is not None:
            raise refused(ticket, other.key)
        live = self._executor.reopen(stored, whole, failed_at(standing(whole)))
        self.begun(live)
        return live

    def ended(self, live: Live, kind: Kind, payload: Payload) -> None:
        """An execution has its end in the next commit: its parent hears of it, its children end
        with it."""
        for key in sorted(live.children):
            child = self._executor.live.get(key)
            if child is None:
                continue
            if kind is Kind.TERMINATED:
                self._executor.terminate(child, compact("its parent was terminated"))
            else:
                self._executor.cancel(child, compact("its parent ended"))
        live.children.clear()
        if kind is Kind.CONTINUED:
            return
        origin = live.origin
        if origin.parent is not None and not origin.detached:
            parent = self._executor.live.get(origin.parent)
            if parent is not None:
                parent.children.discard(live.key)
                self._tell(parent, origin.step, *_outcome(live.key, kind, payload))

    def given_up(self, pending: Pending) -> None:
        """The parent stopped waiting for this child."""
        child = self._executor.live.get(json.loads(str(pending.payload))["id"])
        if child is not None:
            self._executor.cancel(child, _NOT_WAITED_FOR)

    def recover(self) -> None:
        """After a restart: what a crash has left undone between parents and children."""
        for live in list(self._executor.live.values()):
            origin = live.origin
            if origin.parent is not None and not origin.detached:
                self._recover_child(live, origin)
        for live in list(self._executor.live.values()):
            self.begun(live)

    def begun(self, live: Live) -> None:
        """The code waits for children that may not have been started, or have ended."""
        if not live.over:
            for pending in list(live.code.pending.values()):
                if pending.kind is Kind.CHILD:
                    self._recover_parent(live, pending)

    def _recover_child(self, live: Live, origin: Origin) -> None:
        parent = self._executor.live.get(str(origin.parent))
        waits = parent is not None and not parent.over and origin.step in parent.code.pending
        if parent is not None and (waits or parent.trouble is not None):
            parent.children.add(live.key)
            return
        if live.reopened_at:
            # It goes on for its own sake.
            return
        # Its parent has ended, goes on without it, or is just ending.
        stored = self._find(str(origin.parent))
        if parent is not None and not parent.over:
            self._executor.cancel(live, _NOT_WAITED_FOR)
        elif stored is not None and stored.status is Status.TERMINATED:
            self._executor.terminate(live, compact("its parent was terminated"))
        else:
            self._executor.cancel(live, compact("its parent ended"))

    def _recover_parent(self, live: Live, pending: Pending) -> None:
        key = json.loads(str(pending.payload))["id"]
        child = self._executor.live.get(key)
        if child is not None and child.origin.parent == live.key and not child.origin.detached:
            live.children.add(key)
        if child is not None or live.keeps(pending.step):
            return
        stored = self._find(key)
        if stored is None and live.still and live.kept is not None:
            # A fork that is held back has not asked for it, as far as the world knows.
            live.held.append(partial(self._start_late, live, pending.step))
            return
        if stored is None:
            # Of one that was removed nothing is known any more: it runs again.
            self.start(live, pending.step, pending.payload)
            return
        if self._goes_along(live, stored):
            return
        kind = next(kind for kind, status in CLOSED_STATUS.items() if status is stored.status)
        self._tell(live, pending.step, *_outcome(key, kind, stored.outcome))

    def _goes_along(self, parent: Live, stored: Stored) -> bool:
        """The parent was opened again after this child had ended: so is the child, if it can."""
        before = stored.closed_at is not None and stored.closed_at <= parent.reopened_at
        if stored.status is Status.COMPLETED or not before:
            return False
        try:
            self.retry(stored)
        except EngineError as error:
            # The parent hears of its failure once more, and goes on or ends with that.
            words = "its child %r cannot be tried again: %s"
            logger.warning(words, stored.id, error, extra=parent.about)
            return False
        parent.children.add(stored.id)
        return True

    def _start_late(self, live: Live, step: Step) -> None:
        pending = None if live.over else live.code.pending.get(step)
        if pending is not None:
            self._recover_parent(live, pending)

    def _tell(self, parent: Live, step: Step, kind: Kind, payload: Payload) -> None:
        pending = parent.run.pending.get(step) if parent.run is not None else None
        if pending is not None:
            self._executor.resolve(parent, kind, pending, payload)


def _outcome(key: str, kind: Kind, payload: Payload) -> tuple[Kind, Payload]:
    if kind is Kind.COMPLETED:
        return Kind.CHILD_COMPLETED, payload
    detail = None if payload is None else json.loads(str(payload))
    status = CLOSED_STATUS[kind]
    if isinstance(detail, dict):
        return Kind.CHILD_FAILED, compact({"id": key, "status": status, **detail})
    body = {"id": key, "status": status, "type": status.capitalize(), "message": detail or ""}
    return Kind.CHILD_FAILED, compact(body)


def failed(key: str, status: Status, error: BaseException) -> str:
    """What the log keeps of a child that could not be started."""
    return compact({"id": key, "status": status, **describe(error)})


def check_id(id: str, *, system: bool = False) -> None:
    """Raises PayloadError for what cannot be an execution's id; one that begins as those of the
    engine's own is for the `system` only."""
    if id.startswith(RESERVED) and not system:
        raise PayloadError(
            f"ids that begin with {RESERVED!r} are the engine's own",
            hint="Choose another id, or leave it out.",
        )
    if not (0 < len(id) <= LONGEST_ID and id.isprintable() and "/" not in id):
        raise PayloadError(
            "an execution id has 1 to 200 printable characters without '/'",
            hint="Choose another id, or leave it out.",
        )
