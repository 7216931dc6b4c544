"""What an open engine says about its log and its executions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, TypeVar

import apsw

from node.engine import finding
from node.engine.archive import Archive
from node.engine.aside import Aside
from node.engine.commits import Commits
from node.engine.config import EngineConfig
from node.engine.durability import Proofs
from node.engine.errors import EngineStopped, UnknownExecution
from node.engine.events import RESERVED, STATUS_CODES, Event, Kind, Status
from node.engine.executor import Executor
from node.engine.selection import Known, Order, Place, Selection
from node.engine.store import Store, Stored
from node.engine.stream_readers import Readers, StreamReader, StreamView, streams_of
from node.engine.views import ExecutionView, view_of
from node.engine.waiting import Wait, waits_of

if TYPE_CHECKING:
    from node.engine.sql import Answer, Parameters

T = TypeVar("T")
#: Seconds that looking for executions may take.
SECONDS: Final = 5.0


class Reading:
    """The part of an engine that changes nothing."""

    _commits: Commits
    _proofs: Proofs
    _executor: Executor
    _store: Store

    def __init__(self, config: EngineConfig, clock: Callable[[], float]) -> None:
        self.config = config
        self._clock = clock
        self._counts = dict.fromkeys(STATUS_CODES.values(), 0)
        self._opened = False
        self._readers = Readers()
        self._aside = Aside(config.path)
        # Threads of their own: what others ask may take its time.
        self._questions = Aside(config.path)

    def _now(self) -> int:
        return int(self._clock() * 1000)

    @property
    def sequence(self) -> int:
        """The newest committed event."""
        return self._commits.sequence

    @property
    def committed_at(self) -> float | None:
        """When, in unix seconds; None before the first."""
        return self._commits.committed_at

    @property
    def proven(self) -> int:
        """Everything up to this sequence is proven durable."""
        return self._proofs.sequence

    @property
    def can_prove(self) -> bool:
        """Whether there is a barrier at all."""
        return self._proofs.available

    @property
    def counts(self) -> dict[str, int]:
        """Executions by status, without those of the engine's own workflows. Diverged ones count
        as running too: the log has them open."""
        counts = {status.value: count for status, count in self._counts.items()}
        stopped = (
            live.trouble is not None and not live.workflow.startswith(RESERVED)
            for live in self._executor.live.values()
        )
        queued = len(self._executor.queues.waiting)
        return {**counts, Status.QUEUED.value: queued, Status.DIVERGED.value: sum(stopped)}

    def bookmark(self, sequence: int) -> str:
        """`epoch:sequence`."""
        return f"{self.config.epoch}:{sequence}"

    def execution(self, id: str) -> ExecutionView:
        """Raises UnknownExecution, EngineStopped."""
        return self._view(self._find(id))

    def executions(
        self,
        *,
        status: Status | None = None,
        workflow: str | None = None,
        after: int = 0,
        limit: int = 100,
        system: bool = False,
    ) -> list[ExecutionView]:
        """A page of executions in the order of their start, after the row number `after`.

        Those of the engine's own workflows are left out unless `system` says otherwise, or
        `workflow` names one. For more than that, and for many, use `find`.
        """
        selection = Selection(
            statuses=frozenset(() if status is None else (status,)),
            workflows=frozenset(() if workflow is None else (workflow,)),
            system=system,
        )
        found = finding.page(
            self._reading().reader,
            selection,
            self._known(selection),
            order="oldest",
            after=Place("oldest", after),
            limit=limit,
            whole=True,
        )
        return [self._view(stored) for stored in found.items]

    async def find(
        self,
        selection: Selection,
        *,
        order: Order = "oldest",
        after: str | None = None,
        limit: int = 100,
    ) -> tuple[list[ExecutionView], str | None]:
        """A page of the executions that are selected, without their input and outcome, and where
        the next page begins: it stays right while others start.

        A page can be shorter than `limit`, even empty, though there are more. Raises PayloadError
        for a place that is none, StatementTooSlow, ReadersBusy, EngineStopped.
        """
        self._reading()
        place = None if after is None else Place.read(after)
        known = self._known(selection)

        def read(db: apsw.Connection) -> finding.Found:
            at = order if place is None else place.order
            return finding.page(db, selection, known, order=at, after=place, limit=limit)

        found = await self.read_aside(read, seconds=SECONDS)
        self._reading()
        views = [self._view(stored) for stored in found.items]
        return views, None if found.next is None else str(found.next)

    async def tally(self, selection: Selection, by: Iterable[str]) -> list[finding.Tally]:
        """How many executions are selected; `by` is which of "workflow" and "status" are counted
        apart. Raises like `find`."""
        self._reading()
        apart = frozenset(by)
        known = self._known(selection, "status" in apart)
        return await self.read_aside(
            lambda db: finding.count(db, selection, known, apart), seconds=SECONDS
        )

    async def sql(
        self, statement: str, parameters: Parameters = (), *, rows: int = 1000, seconds: float = 2.0
    ) -> Answer:
        """Read the log with one SELECT, beside the engine; at most so many `rows`, for so many
        seconds. Raises StatementRefused, StatementTooSlow, ReadersBusy, EngineStopped."""
        # Loaded when it is asked for: most engines are never asked anything in SQL.
        from node.engine.sql import ask

        def read(db: apsw.Connection) -> Answer:
            return ask(db, statement, parameters, rows=rows, seconds=seconds)

        self._reading()
        # It is cut off by itself, and has to clean up after that.
        return await self._questions.read(read, seconds=seconds + 1)

    async def read_aside(self, work: Callable[[apsw.Connection], T], *, seconds: float) -> T:
        """What `work` makes of a connection of its own, on a thread, cut off after so many
        seconds. Raises StatementTooSlow, ReadersBusy, EngineStopped, and what `work` raises."""
        self._reading()
        return await self._aside.read(work, seconds=seconds)

    def _known(self, selection: Selection, apart: bool = False) -> Known:
        """What only the memory says of the executions that are selected."""
        queued: tuple[int, ...] = ()
        diverged: tuple[int, ...] = ()
        children: tuple[str, ...] = ()
        if apart or selection.parts_open_ones:
            queued = tuple(live.rowid for live in self._executor.queues.waiting)
            live = self._executor.live.values()
            diverged = tuple(one.rowid for one in live if one.trouble is not None)
        if selection.parent is not None and self._store.find(selection.parent) is not None:
            events = self.events(selection.parent)
            calls = (event for event in events if event.kind is Kind.CHILD)
            children = tuple({json.loads(str(event.payload))["id"]: None for event in calls})
        return Known(queued, diverged, children)

    def events(self, id: str) -> list[Event]:
        """The committed events of an execution. Raises UnknownExecution, EngineStopped."""
        stored = self._find(id)
        head = stored.closed or self._store.head(stored.rowid, stored.started)
        return self._store.history(id, head, whole=True)

    def streams(self, id: str) -> list[StreamView]:
        """What an execution has published to. Raises UnknownExecution, EngineStopped."""
        return streams_of(self.events(id), over=self._find(id).closed is not None)

    def follow(self, id: str, name: str, offset: int = 0) -> StreamReader:
        """Follow a stream from an offset on, to be used in `with`; committed values only."""
        return StreamReader(
            id, name, offset, find=self._find, events=self._after, readers=self._readers
        )

    def _after(self, stored: Stored, head: int, seen: int) -> list[Event]:
        newest = head or stored.closed or self._store.head(stored.rowid, stored.started)
        return self._store.history(stored.id, newest, whole=True, after=seen)

    def waiting(self, id: str) -> list[Wait]:
        """Why an execution waits; nothing for a closed one. Raises UnknownExecution."""
        stored = self._find(id)
        live = self._executor.live.get(stored.id)
        return (
            []
            if live is None
            else waits_of(live, self._executor.live, self._executor.queues, self._now())
        )

    def archive(self, id: str) -> Archive:
        """An execution as a file that can be replayed elsewhere. Raises UnknownExecution."""
        config = self.config
        return Archive.of(
            self.events(id),
            tenant=config.tenant,
            lineage=config.lineage,
            durability=config.durability,
            secret=self._executor.secret_of(id).hex(),
        )

    def _find(self, id: str) -> Stored:
        stored = self._reading().find(id)
        if stored is None:
            raise UnknownExecution(f"no execution {id!r}")
        return stored

    def _reading(self) -> Store:
        if not self._opened:
            raise EngineStopped("the engine is not open")
        return self._store

    def _view(self, stored: Stored) -> ExecutionView:
        return view_of(stored, self._executor.live.get(stored.id), self.sequence)
