"""What an open engine says about its log and its executions."""

from __future__ import annotations

from collections.abc import Callable

from node.engine.archive import Archive
from node.engine.commits import Commits
from node.engine.config import EngineConfig
from node.engine.durability import Proofs
from node.engine.errors import EngineStopped, UnknownExecution
from node.engine.events import RESERVED, STATUS_CODES, Event, Status
from node.engine.executor import Executor
from node.engine.store import Store, Stored
from node.engine.stream_readers import Readers, StreamReader, StreamView, streams_of
from node.engine.views import ExecutionView, view_of
from node.engine.waiting import Wait, waits_of


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
        `workflow` names one.
        """
        system = system or (workflow or "").startswith(RESERVED)
        store = self._reading()
        if status not in (Status.DIVERGED, Status.QUEUED):
            found = store.page(
                status=status, workflow=workflow, after=after, limit=limit, system=system
            )
            return [self._view(stored) for stored in found]
        if status is Status.QUEUED:
            found_live = self._executor.queues.waiting
        else:
            found_live = [live for live in self._executor.live.values() if live.trouble is not None]
        wanted = sorted(
            (live.rowid, live.key)
            for live in found_live
            if live.rowid > after
            and workflow in (None, live.workflow)
            and (system or not live.workflow.startswith(RESERVED))
        )
        return [self.execution(key) for _, key in wanted[:limit]]

    def events(self, id: str) -> list[Event]:
        """The committed events of an execution. Raises UnknownExecution, EngineStopped."""
        stored = self._find(id)
        return self._store.history(id, self._head(stored), whole=True)

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
