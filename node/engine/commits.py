"""Group commit: what becomes ready while one commit runs goes into the next one together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, cast

import apsw

from node.engine.errors import EngineStopped
from node.engine.events import Kind, Payload
from node.engine.observer import Observer
from node.engine.seals import End
from node.engine.tally import Tally
from node.engine.writer import Batch, Call, Entry, Job, Writer

logger = logging.getLogger(__name__)


class Commits:
    """The loop's side of the writer. Belongs to the loop that made it.

    `now` gives unix milliseconds. `on_commit` gets (last sequence, unix seconds) after each
    commit; `on_failed` is called once if the log cannot be written, and nothing is written
    after that. `observer` is told of each commit.
    """

    def __init__(
        self,
        db: apsw.Connection,
        tail: End,
        *,
        names: dict[str, int],
        heads: dict[int, int],
        now: Callable[[], int],
        on_commit: Callable[[int, float], None] | None,
        on_failed: Callable[[BaseException], None],
        inline_limit: int = 1024 * 1024,
        observer: Observer | None = None,
        tally: Tally | None = None,
    ) -> None:
        self.tally = tally or Tally()
        self.sequence = tail.sequence
        """The newest committed event."""
        self.committed_at: float | None = tail.at / 1000 if tail.sequence else None
        """When, in unix seconds; None before the first."""
        self._loop = asyncio.get_running_loop()
        self._now = now
        self._on_commit = on_commit
        self._observer = observer
        self._on_failed = on_failed
        self._at = tail.at
        self._batch: Batch | None = None
        self._writing: Batch | None = None
        self._scheduled = False
        self._held = False
        self._closing = False
        self._broken = False
        self._idle = asyncio.Event()
        self._settling: list[tuple[Batch, asyncio.Future[None]]] = []
        self.removing: dict[str, list[Callable[[], None]]] = {}
        """The ids of executions that are just being removed, and what is to be called then."""
        self._writer = Writer(
            db,
            tail,
            names=names,
            heads=heads,
            on_committed=partial(self._from_writer, self._committed),
            on_failed=partial(self._from_writer, self._failed),
            inline_limit=inline_limit,
        )
        self._writer.start()

    @property
    def at(self) -> int:
        """The time of the next commit, unix milliseconds; it never goes back."""
        return self._next().at

    @property
    def coming(self) -> int:
        """What `at` would be, though nothing is to be committed yet."""
        return max(self._now(), self._at) if self._batch is None else self._batch.at

    @property
    def at_rest(self) -> bool:
        """Whether everything that was appended is committed."""
        return self._batch is None and self._writing is None

    def append(self, entry: Entry) -> int:
        """Put an event into the next commit; returns its time, unix milliseconds."""
        batch = self._batch or self._next()
        batch.entries.append(entry)
        return batch.at

    def do(self, job: Job) -> None:
        """Have a job done in the next commit, before its events; one at a time."""
        batch = self._next()
        if batch.job is not None:
            raise AssertionError("a job is waiting already")
        batch.job = job

    def call(self, call: Call) -> None:
        """Run a transactional activity in the next commit, after its events."""
        self._next().calls.append(call)

    def withdraw_calls(self, execution: int) -> None:
        """Take back what `call` was given for this execution and is not with the writer yet."""
        if self._batch is not None:
            calls = self._batch.calls
            self._batch.calls = [call for call in calls if call.execution != execution]

    def lacks(self, key: str) -> bool:
        """Whether the log has no execution with this id; False also when that is not known
        without waiting."""
        return self._writing is None and self._writer.lacks(key)

    def head(self, execution: int) -> int:
        """The newest committed event of an open execution; 0 when it is not known here."""
        return self._writer.head(execution)

    def hold(self) -> None:
        """Commit nothing until `let_go`, which comes before this turn of the loop is over."""
        self._held = True

    def let_go(self, *, now: bool) -> None:
        """Commit what is ready: `now`, or with what else becomes ready in this turn."""
        self._held = False
        if self._batch is not None and not self._writing:
            if now:
                self._flush()
            else:
                self._schedule()

    def cut_off(self) -> None:
        """Commit nothing more, and tell nobody of what is committed."""
        self._broken = True

    def abandon(self) -> None:
        """Drop what is not with the writer yet."""
        self._batch = None
        self._refuse_settling("the engine stopped before it was committed")

    async def settled(self) -> int:
        """Wait until all that was appended so far is committed; the newest sequence then.

        Raises EngineStopped when it will not be.
        """
        last = self.newest
        if last is not None:
            future: asyncio.Future[None] = self._loop.create_future()
            self._settling.append((last, future))
            await future
        return self.sequence

    @property
    def newest(self) -> Batch | None:
        """What holds the newest event that is not committed yet."""
        return self._batch or self._writing

    def then(self, batch: Batch | None, function: Callable[[], None]) -> None:
        """Call a function once what was the `newest` is committed, before anybody else is told
        of that; never, when it will not be. It must not raise."""
        if self._broken:
            return
        if batch is None or batch.last:
            function()
        else:
            batch.then.append(function)

    async def close(self) -> None:
        """Commit what is ready and end the writer."""
        self._closing = True
        self._flush()
        while self._writing:
            self._idle.clear()
            await self._idle.wait()
        await self._loop.run_in_executor(None, self._writer.close)

    def _next(self) -> Batch:
        batch = self._batch
        if batch is None:
            self._at = max(self._now(), self._at)
            batch = self._batch = Batch(self._at)
            if not (self._writing or self._held):
                self._schedule()
        return batch

    def _schedule(self) -> None:
        # Everything that becomes ready in this turn of the loop shares the commit.
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turned)

    def _turned(self) -> None:
        self._scheduled = False
        self._flush()

    def _flush(self) -> None:
        if self._batch is None or self._writing or self._broken:
            return
        batch, self._batch = self._batch, None
        self._writing = batch
        try:
            here = self._writer.commit_here(batch)
        except BaseException as error:
            logger.critical("the log cannot be written: %s", error)
            self._failed(error)
            if not isinstance(error, Exception):
                raise
            return
        if here:
            self._committed(batch)
        else:
            self._writer.submit(batch)

    def _from_writer(self, function: Callable[[Any], None], argument: Any) -> None:
        # The loop can be gone when it was torn down without close().
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, argument)

    def _committed(self, batch: Batch) -> None:
        self._writing = None
        self.sequence = batch.last
        self.committed_at = batch.at / 1000
        self.tally.committed(batch)
        if self._observer is not None and batch.last >= batch.first:
            self._observer.committed(batch.last - batch.first + 1, batch.took)
        if self._on_commit is not None and batch.last >= batch.first:
            self._observed(self._on_commit, self.committed_at)
        if self._broken:
            self._idle.set()
            return
        for function in batch.then:
            function()
        try:
            self._tell(batch)
        except Exception as error:
            # Going on could leave an execution waiting for ever without a word.
            logger.exception("what follows a commit broke the engine")
            self._on_failed(error)
        if self._closing:
            self._flush()
        elif self._batch is not None:
            # After what was just made ready: it runs first and shares the next commit.
            self._schedule()
        if self._settling:
            self._settle(batch)
        if self._closing and not self._writing:
            self._idle.set()

    def _settle(self, batch: Batch) -> None:
        waiting, self._settling = self._settling, []
        for last, future in waiting:
            if last is not batch:
                self._settling.append((last, future))
            elif not future.done():
                future.set_result(None)

    def _refuse_settling(self, reason: str) -> None:
        waiting, self._settling = self._settling, []
        for _, future in waiting:
            if not future.done():
                future.set_exception(EngineStopped(reason))

    def _tell(self, batch: Batch) -> None:
        if batch.job is not None:
            batch.job.finished()
        sequence = batch.first + batch.ahead
        for entry in batch.entries:
            if entry.after is not None:
                entry.after(sequence)
            sequence += 1
        for call in batch.calls:
            kind, payload = cast("tuple[Kind, Payload]", call.outcome)
            call.after(kind, payload, batch.at)

    def _observed(self, on_commit: Callable[[int, float], None], at: float) -> None:
        try:
            on_commit(self.sequence, at)
        except Exception:
            logger.exception("the observer of commits failed; the engine goes on")

    def _failed(self, error: BaseException) -> None:
        self._broken = True
        self._writing = None
        self._idle.set()
        self._on_failed(error)
