"""What an open engine says about its log and its executions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, TypeVar

import apsw

from node.engine import finding
from node.engine.archive import Archive
from node.engine.aside import Aside
from node.engine.beginning import standing
from node.engine.commits import Commits
from node.engine.config import EngineConfig
from node.engine.durability import Proofs
from node.engine.errors import EngineStopped, UnknownExecution
from node.engine.events import RESERVED, STATUS_CODES, Event, Kind, Status
from node.engine.executor import Executor
from node.engine.live import Live
from node.engine.releases import VersionView
from node.engine.selection import Known, Order, Place, Selection
from node.engine.stacks import Stack
from node.engine.store import Store, Stored
from node.engine.stream_readers import Readers, StreamReader, StreamView, streams_of
from node.engine.tally import Tally
from node.engine.views import ExecutionView, view_of
from node.engine.waiting import (
    Surroundings,
    Wait,
    Waiting,
    occupation_of,
    stack_of,
    waiting_of,
    waits_of,
)

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
        self.tally = Tally()
        """What it has counted since it was made."""
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
        """Executions by status, without those of the engine's own workflows. Queued, diverged
        and parked ones count as running too: the log has them open."""
        counts = {status.value: count for status, count in self._counts.items()}
        stopped = [
            live.parked
            for live in self._executor.live.values()
            if live.trouble is not None and not live.workflow.startswith(RESERVED)
        ]
        return {
            **counts,
            Status.QUEUED.value: len(self._executor.queues.waiting),
            Status.DIVERGED.value: len(stopped) - sum(stopped),
            Status.PARKED.value: sum(stopped),
        }

    def versions(self) -> list[VersionView]:
        """The versions of the application, and how many open executions need each of them: one
        with none may be kept no longer. Raises EngineStopped."""
        self._reading()
        return self._executor.releases.views(self._executor.live.values())

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
        store = self._reading()
        found = store.cut_off(
            lambda: finding.page(
                store.reader,
                selection,
                self._known(selection),
                order="oldest",
                after=Place("oldest", after),
                limit=limit,
                whole=True,
            )
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

    async def count(self, selection: Selection, by: Iterable[str]) -> list[finding.Grouped]:
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
        parked: tuple[int, ...] = ()
        children: tuple[str, ...] = ()
        if apart or selection.parts_open_ones:
            queued = tuple(live.rowid for live in self._executor.queues.waiting)
            live = [one for one in self._executor.live.values() if one.trouble is not None]
            diverged = tuple(one.rowid for one in live if not one.parked)
            parked = tuple(one.rowid for one in live if one.parked)
        if selection.parent is not None and self._store.find(selection.parent) is not None:
            events = self.events(selection.parent)
            calls = (event for event in events if event.kind is Kind.CHILD)
            children = tuple({json.loads(str(event.payload))["id"]: None for event in calls})
        return Known(queued, diverged, parked, children)

    def events(self, id: str) -> list[Event]:
        """The committed events of an execution. Raises UnknownExecution, EngineStopped."""
        stored = self._find(id)
        return self._store.history(id, self._head(stored), whole=True)

    def events_after(self, sequence: int, limit: int = 500) -> list[Event]:
        """The committed events of all executions after a sequence. Their `commit` is 0. Raises
        EngineStopped."""
        return self._reading().after(sequence, limit)

    def streams(self, id: str) -> list[StreamView]:
        """What an execution has published to. Raises UnknownExecution, EngineStopped."""
        stored = self._find(id)
        lengths = self._store.lengths(stored.rowid)
        return streams_of(self.events(id), lengths, over=stored.closed is not None)

    def follow(self, id: str, name: str, offset: int = 0) -> StreamReader:
        """Follow a stream from an offset on, to be used in `with`; committed values only."""
        return StreamReader(
            id,
            name,
            offset,
            find=self._find,
            events=self._after,
            lengths=lambda stored: self._store.lengths(stored.rowid),
            readers=self._readers,
        )

    def _after(self, stored: Stored, head: int, seen: int) -> list[Event]:
        return self._store.history(stored.id, head or self._head(stored), whole=True, after=seen)

    def _head(self, stored: Stored) -> int:
        """Its newest event. In the log, that of one that has waited for long is far back."""
        known = stored.closed or self._commits.head(stored.rowid)
        return known or self._store.head(stored.rowid, stored.started)

    def waiting(self, id: str) -> list[Wait]:
        """Why an execution waits; nothing for a closed one. Raises UnknownExecution."""
        live = self._executor.live.get(self._find(id).id)
        return [] if live is None else waits_of(live, self._surroundings())

    def stack(self, id: str) -> list[Stack]:
        """Where the code of an execution stands, one for each of its tasks; nothing for one that
        has no code now. Raises UnknownExecution."""
        live = self._executor.live.get(self._find(id).id)
        return [] if live is None else stack_of(live)

    def all_waiting(
        self,
        *,
        kind: str | None = None,
        workflow: str | None = None,
        longer_than: float = 0,
        after: int = 0,
        limit: int = 100,
    ) -> list[Waiting]:
        """Open executions with what they wait for, in the order of their start, after the row
        number `after`: those of a `workflow`, those that wait for something of a `kind`, and
        those for which nothing has come for `longer_than` seconds."""
        self._reading()
        around = self._surroundings()
        found: list[Waiting] = []
        for live in sorted(self._executor.live.values(), key=lambda live: live.rowid):
            if live.rowid <= after or workflow not in (None, live.workflow):
                continue
            if workflow is None and live.workflow.startswith(RESERVED):
                continue
            one = waiting_of(live, around)
            if around.now / 1000 - one.since < longer_than:
                continue
            if kind is None or any(wait.kind == kind for wait in one.waits):
                found.append(one)
                if len(found) == limit:
                    break
        return found

    def _surroundings(self) -> Surroundings:
        executor = self._executor
        return Surroundings(
            executions=executor.live,
            queues=executor.queues,
            now=self._now(),
            floor=self.config.durability,
            proven=self.proven,
            may_have_effects=executor.may_have_effects(),
            thread_is_free=executor.thread_is_free,
            paused=self._paused,
        )

    def _paused(self, live: Live) -> tuple[int | None, str | None]:
        for event in reversed(self.events(live.key)):
            if event.kind is Kind.PAUSED:
                reason = None if event.payload is None else json.loads(str(event.payload))
                return event.at, reason
        return None, None

    def census(self) -> dict[tuple[str, str], int]:
        """Open executions by workflow and by what they are at: `running` an attempt, `waiting`,
        `queued`, `paused` or `diverged`. It looks at each of them."""
        found: dict[tuple[str, str], int] = {}
        for live in self._executor.live.values():
            key = live.workflow, occupation_of(live)
            found[key] = found.get(key, 0) + 1
        return found

    @property
    def attempts_running(self) -> int:
        """How many attempts of activities are under way, or about to be."""
        return self._executor.attempts_running

    @property
    def late(self) -> float:
        """For how long what time alone should have made happen has not, in seconds."""
        wake = self._executor.next_wake
        return 0.0 if wake is None else max(0, self._now() - wake) / 1000

    def export(self, id: str, *, with_children: bool = False) -> Archive:
        """An execution as a file that can be replayed and imported elsewhere, with those that it
        started if they are asked for. Raises UnknownExecution."""
        return self._export(id, with_children, {id})

    def _export(self, id: str, with_children: bool, seen: set[str]) -> Archive:
        config = self.config
        events = self.events(id)
        children: list[Archive] = []
        for event in events if with_children else ():
            child = json.loads(str(event.payload))["id"] if event.kind is Kind.CHILD else None
            # One with an id of its own may be in the log more than once, or not at all.
            if child is not None and child not in seen and self._reading().find(child) is not None:
                seen.add(child)
                children.append(self._export(child, with_children, seen))
        tenant, lineage = self._reading().identities.at(standing(events)[0].sequence)
        return Archive.of(
            events,
            children=children,
            tenant=tenant,
            lineage=lineage,
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
        live = self._executor.live.get(stored.id)
        runs_on = None if live is None else self._executor.releases.runs_on(live)
        return view_of(stored, live, self.sequence, runs_on)
