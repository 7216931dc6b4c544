"""Removing what the log need not keep: by itself, when the engine has time, and when asked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from node.engine.commits import Commits
from node.engine.definition import Workflow
from node.engine.due import Due, Execution, History, expired
from node.engine.errors import (
    EngineError,
    EngineStopped,
    ExecutionHeld,
    ExecutionOpen,
    NotProvenYet,
    UnknownExecution,
)
from node.engine.events import RESERVED, STATUS_CODES, Status
from node.engine.executor import Executor
from node.engine.gone import day_of
from node.engine.live import Origin
from node.engine.namespace import workflow
from node.engine.removal import Limits, Removal
from node.engine.retention import RECORD, Rules
from node.engine.retention_views import Plan, RetentionView, Round
from node.engine.store import Store, Stored
from node.engine.timers import Timers

if TYPE_CHECKING:
    from node.engine.builtins import Operations

logger = logging.getLogger(__name__)

#: Executions, or histories, that one transaction removes at most.
AT_ONCE: Final = 100
#: Between two rounds: a tenth of the shortest time that a rule names, within these (ms).
LEAST_PAUSE: Final = 1000
MOST_PAUSE: Final = 3600 * 1000
#: Milliseconds after which a removal that was begun is gone on with.
SOON: Final = 10_000
#: Seconds that a start waits for the removal of what had its id.
PATIENCE: Final = 30.0
#: Between two rounds there is at least so many times the time that one took.
REST: Final = 20
#: While others commit, the writer is left alone this many times as long as it was used.
COURTESY: Final = 4.0
#: Parts in which remembered ids are looked through.
SWEEPS: Final = 64
#: Executions and histories that a dry run names.
NAMED: Final = 100
#: A row number and a sequence.
Pair = tuple[int, int]
_ANY: Final = 2**62


@workflow(name=RECORD)
async def _record(record: dict[str, Any]) -> None:
    """What was removed from the log so far is its input. Each time something is, another one
    takes its place."""


def records(operations: Operations) -> Iterable[Workflow[..., Any]]:
    """The workflow whose one execution says what was removed."""
    return [_record]


class RetentionControl:
    """Removes from one engine's log. `prove` says whether everything up to a sequence is durable:
    nothing else is removed, so that the log in the bucket can always be found in this one.

    `least` is how long (ms) a closed execution is kept at least, since a queue's rate still
    counts it. `on_removed` is called with the status of each execution that is gone; `followed`
    tells whether somebody reads a stream of an execution, which no rule removes then.
    """

    def __init__(
        self,
        rules: Rules,
        *,
        executor: Executor,
        store: Store,
        commits: Commits,
        prove: Callable[[int], Awaitable[bool]],
        now: Callable[[], int],
        least: int,
        genesis: bytes,
        on_removed: Callable[[Status], None],
        followed: Callable[[str], bool],
        limits: Limits | None = None,
    ) -> None:
        self._rules = rules
        self._executor = executor
        self._store = store
        self._commits = commits
        self._prove = prove
        self._now = now
        self._least = least
        self._genesis = genesis
        self._on_removed = on_removed
        self._followed = followed
        self._limits = limits or Limits()
        self._one_at_a_time = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._next_at: int | None = None
        self._last: Round | None = None
        self._running = False
        self._stopped = False
        self._swept = 0
        self._committing: asyncio.Future[Any] | None = None
        """Done when the newest removal is."""
        self._timers: Timers[int] = Timers(asyncio.get_running_loop(), now, self._due)
        store.removing = commits.removing

    # By itself --------------------------------------------------------------------------------

    @property
    def pause(self) -> int | None:
        """Milliseconds between two rounds; None when there is nothing to do."""
        shortest = self._rules.shortest
        return None if shortest is None else min(max(shortest // 10, LEAST_PAUSE), MOST_PAUSE)

    def begin(self) -> None:
        """Go on by itself from here on: with what an earlier engine has begun at once, with the
        next round when it is due."""
        record = self._store.record()
        last = self._store.find(RECORD)
        if record.going:
            # Nobody may use their ids before they are gone.
            for key in self._store.ids(record.going):
                self._commits.removing.setdefault(key, [])
            self._arm(self._now())
        elif self.pause is not None:
            due = 0 if last is None else last.started_at + self.pause
            self._arm(max(due, self._now() + LEAST_PAUSE))

    def look(self) -> None:
        """The clock may have jumped."""
        self._timers.look()

    def stop(self) -> None:
        """Remove nothing more. What is with the writer is committed."""
        self._stopped = True
        self._timers.close()
        if self._task is not None:
            self._task.cancel()

    def _arm(self, at: int) -> None:
        self._next_at = at
        self._timers.add(at, at)

    def _due(self, at: int) -> None:
        if not self._stopped and at == self._next_at:
            self._next_at = None
            self._task = asyncio.get_running_loop().create_task(self._by_itself())

    async def _by_itself(self) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        with suppress(EngineStopped):
            try:
                await self.run()
            except EngineStopped:
                raise
            except Exception:
                logger.exception("a round of retention failed; the next one tries again")
            if self.pause is not None and not self._stopped:
                # In a log of very many executions, looking through them takes its time, too.
                took = (loop.time() - begun) * 1000
                self._arm(self._now() + max(self.pause, round(took * REST)))
            self._come_back()

    def _come_back(self) -> None:
        """What was begun must come to its end, also where no rule looks again."""
        if self._stopped or not self._store.record().going:
            return
        at = self._now() + SOON
        if self._next_at is None or self._next_at > at:
            self._arm(at)

    # When asked -------------------------------------------------------------------------------

    async def run(self, seconds: float | None = None) -> Round:
        """One round: remove everything that is due, in batches; begin no further batch after so
        many `seconds`. Raises EngineStopped."""
        async with self._alone():
            self._running = True
            try:
                return await self._round(seconds)
            finally:
                self._running = False

    async def plan(self) -> Plan:
        """What a round would remove now. Raises EngineStopped."""
        self._executor.refuse_when_stopped()
        due = self._look(self._commits.sequence)
        executions: list[Execution] = []
        histories: list[History] = []
        count = past = 0
        for found in due.executions():
            count += len(found)
            executions += found[: NAMED - len(executions)]
            await asyncio.sleep(0)
        for some in due.histories():
            past += len(some)
            histories += some[: NAMED - len(histories)]
            await asyncio.sleep(0)
        return Plan(count, past, executions, histories)

    async def delete(self, id: str) -> int:
        """Remove one closed execution now, whatever the rules say; the number of its events. In
        the log when it returns.

        Raises UnknownExecution, ExecutionOpen, ExecutionHeld, NotProvenYet (it could
        not be proven that the log is in the bucket so far), LogDamaged, EngineStopped.
        """
        async with self._alone():
            self._executor.refuse_when_stopped()
            await self._commits.settled()
            stored = self._closed(id)
            proven = await self._proven()
            # Meanwhile it may be open again.
            stored = self._closed(id)
            if not proven or (stored.closed or 0) > proven:
                raise _unproven()
            events = 0
            left: Sequence[Pair] = [(stored.rowid, proven)]
            try:
                while left:
                    done = await self._remove(left, [], [id])
                    events += done.events
                    left = _rest(left, done)
                    if left and not await self._proven():
                        raise _unproven()
            finally:
                self._come_back()
            return events

    async def hold(self, id: str, reason: str = "") -> bool:
        """Let nothing remove an execution, open or closed, until it is released; False when it
        is held already. Raises UnknownExecution, NotProvenYet, EngineStopped."""
        return await self._mark(id, reason)

    async def release(self, id: str) -> bool:
        """Let rules, and `delete`, remove an execution again; False when it is not held. Raises
        like `hold`."""
        return await self._mark(id, None)

    async def passed(self, id: str) -> None:
        """Wait until nothing of this id is being removed any more. Raises NotProvenYet when that
        takes too long, EngineStopped."""
        while id in self._commits.removing:
            gone = self._executor.unanswered()

            def past(future: asyncio.Future[Any] = gone) -> None:
                if not future.done():
                    future.set_result(None)

            self._commits.removing[id].append(past)
            try:
                async with asyncio.timeout(PATIENCE):
                    await gone
            except TimeoutError:
                raise NotProvenYet(
                    f"an execution {id!r} is being removed, and the bucket cannot be reached for it"
                ) from None

    def view(self) -> RetentionView:
        """What there is to see of it. Raises EngineStopped."""
        self._executor.refuse_when_stopped()
        record = self._store.record()
        ranges, pages, free, size = self._store.rows(
            "SELECT (SELECT count(*) FROM litefleet_removed), p.page_count, f.freelist_count,"
            " s.page_size FROM pragma_page_count p, pragma_freelist_count f, pragma_page_size s"
        )[0]
        held = self._store.rows(
            "SELECT x.key FROM litefleet_hold h JOIN litefleet_execution x ON x.id = h.execution"
            " ORDER BY h.at"
        )
        return RetentionView(
            rules=self._rules.views(),
            executions=record.executions,
            histories=record.histories,
            events=record.events,
            ranges=ranges,
            held=[row[0] for row in held],
            size=pages * size,
            free=free * size,
            last=self._last,
            next_at=None if self._next_at is None else self._next_at / 1000,
            running=self._running,
        )

    # How --------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """One at a time, and not before the last removal of another one is committed, who may
        have gone without waiting for it."""
        async with self._one_at_a_time:
            if self._committing is not None and not self._committing.done():
                await asyncio.wait([self._committing])
            yield

    async def _round(self, seconds: float | None) -> Round:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        done = self._last = Round(self._now() / 1000)

        def late() -> bool:
            return seconds is not None and loop.time() - begun >= seconds

        def add(removal: Removal) -> None:
            nonlocal done
            done = self._last = replace(
                done,
                executions=done.executions + len(removal.gone),
                histories=done.histories + removal.trimmed,
                events=done.events + removal.events,
                batches=done.batches + 1,
                seconds=loop.time() - begun,
            )

        try:
            await self._finish(add)
            await self._sweep()
            due = self._look(await self._proven_or_fail())
            for executions in due.executions():
                for batch in _batches(executions):
                    if late():
                        return done
                    ids = [one.id for one in batch]
                    await self._batch([(one.rowid, one.closed) for one in batch], [], ids, add)
                await asyncio.sleep(0)
            for histories in due.histories():
                for some in _batches(histories):
                    if late():
                        return done
                    await self._batch([], [(one.rowid, one.beginning) for one in some], [], add)
                await asyncio.sleep(0)
        except EngineStopped:
            raise
        except EngineError as error:
            logger.warning("retention does not go on for now: %s", error)
            done = self._last = replace(done, trouble=f"{error} {error.hint}".strip())
        return done

    async def _finish(self, add: Callable[[Removal], None]) -> None:
        """What was begun, by this engine or by one before it."""
        going = list(self._store.record().going)
        if going:
            ids = self._store.ids(going)
            await self._proven_or_fail()
            await self._batch([(one, _ANY) for one in going], [], ids, add)

    async def _batch(
        self,
        executions: Sequence[Pair],
        histories: Sequence[Pair],
        ids: Sequence[str],
        add: Callable[[Removal], None],
    ) -> None:
        while executions or histories:
            await self._proven_or_fail()
            # While that was waited for, some may have been opened again.
            if executions:
                executions = [one for one in executions if self._is_closed(one[0])]
            before = self._commits.sequence
            done = await self._remove(executions, histories, ids)
            add(done)
            executions, histories = _rest(executions, done), _rest(histories, done)
            others = self._commits.sequence - before > 2
            await asyncio.sleep(COURTESY * done.seconds if others else 0)

    def _is_closed(self, rowid: int) -> bool:
        found = self._store.rows("SELECT key FROM litefleet_execution WHERE id = ?", (rowid,))
        return bool(found) and found[0][0] not in self._executor.live

    async def _remove(
        self,
        executions: Sequence[Pair],
        histories: Sequence[Pair],
        ids: Sequence[str],
        **marks: Any,
    ) -> Removal:
        """One transaction. From here on until it is committed, nobody finds these executions."""
        self._executor.refuse_when_stopped()
        committed = self._committing = self._executor.unanswered()
        for id in ids:
            self._commits.removing.setdefault(id, [])

        def after(removal: Removal) -> None:
            if removal.error is None:
                self._store.look_for_gaps()
            for name, status in removal.hidden:
                if not name.startswith(RESERVED):
                    self._on_removed(STATUS_CODES[status])
            still = set(self._store.ids(removal.written.going if removal.written else ()))
            for id in [id for id in ids if id not in still]:
                for act in self._commits.removing.pop(id, []):
                    act()
            if not committed.done():
                committed.set_result(None)

        removal = Removal(
            record=self._executor.next_rowid(),
            secret=self._store.secret,
            genesis=self._genesis,
            after=after,
            executions=list(executions),
            histories=list(histories),
            limits=self._limits,
            **marks,
        )
        self._commits.do(removal)
        await asyncio.shield(committed)
        if removal.error is not None:
            raise removal.error
        return removal

    async def _mark(self, id: str, reason: str | None) -> bool:
        async with self._alone():
            self._executor.refuse_when_stopped()
            live = self._executor.live.get(id)
            if live is not None:
                await asyncio.shield(live.committed)
            if not await self._proven():
                raise _unproven()
            stored = self._find(id)
            is_held = self._is_held(stored.rowid)
            if is_held is (reason is not None):
                return False
            if reason is None:
                await self._remove([], [], [], release=stored.rowid)
            else:
                await self._remove([], [], [], hold=(stored.rowid, reason))
            return True

    async def _sweep(self) -> None:
        """Forget ids whose time has come, once a day."""
        today = day_of(self._now())
        if today == self._swept:
            return
        width = 2**64 // SWEEPS
        for part in range(SWEEPS):
            low = -(2**63) + part * width
            if expired(self._store, low, low + width - 1, today):
                await self._remove([], [], [], sweep=(low, low + width - 1))
            await asyncio.sleep(0)
        self._swept = today

    def _look(self, newest: int) -> Due:
        return Due(
            self._store,
            self._rules,
            now=self._now(),
            newest=newest,
            least=self._least,
            needed=self._needed,
            followed=self._followed,
        )

    def _needed(self, parent: str, step: tuple[str, int]) -> bool:
        """Whether an open parent waits for the end of the child of this step. One whose code does
        not run now may, when it does again."""
        live = self._executor.live.get(parent)
        if live is None:
            return False
        return live.run is None or live.over or step in live.run.pending

    async def _proven(self) -> int:
        """The newest event, if everything is durable up to there; else 0."""
        newest = self._commits.sequence
        return newest if await self._prove(newest) else 0

    async def _proven_or_fail(self) -> int:
        proven = await self._proven()
        if not proven and self._commits.sequence:
            raise _unproven()
        return proven

    def _find(self, id: str) -> Stored:
        stored = self._store.find(id)
        if stored is None:
            raise UnknownExecution(f"no execution {id!r}")
        return stored

    def _closed(self, id: str) -> Stored:
        stored = self._find(id)
        if stored.closed is None or id in self._executor.live:
            raise ExecutionOpen(f"execution {id!r} has not ended")
        if id == RECORD:
            raise ExecutionHeld(f"{id!r} says what was removed, and stays", hint="Leave it.")
        if self._is_held(stored.rowid):
            raise ExecutionHeld(f"execution {id!r} is held")
        history = self._store.history_of(stored)
        origin = Origin.of(history)
        if (
            origin.parent is not None
            and not origin.detached
            and self._needed(origin.parent, origin.step)
        ):
            raise ExecutionOpen(
                f"execution {id!r} has ended, and its parent {origin.parent!r} has not heard of it",
                hint="Wait until the parent goes on, or terminate it; then delete this one.",
            )
        return stored

    def _is_held(self, rowid: int) -> bool:
        return bool(self._store.rows("SELECT 1 FROM litefleet_hold WHERE execution = ?", (rowid,)))


def _rest(wanted: Sequence[Pair], done: Removal) -> list[Pair]:
    """What of this is still to be done."""
    undone = set(done.undone)
    return [one for one in wanted if one in undone]


def _batches(found: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (found[at : at + AT_ONCE] for at in range(0, len(found), AT_ONCE))


def _unproven() -> NotProvenYet:
    return NotProvenYet(
        "it cannot be proven that the bucket has the log so far, and only what it has is removed"
    )
