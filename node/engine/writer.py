"""The one writer of the log: a batch of events is one transaction."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Final, Protocol, cast

import apsw

from node.engine import chain
from node.engine.blobs import Kept, Shelf
from node.engine.events import CLOSED_AS, Kind, Payload
from node.engine.labels import KINDS as _LABELLING
from node.engine.labels import Relabelling
from node.engine.schema import BUSY_TIMEOUT_MS, OWN_PREFIX, OWN_VIEWS
from node.engine.seals import End

logger = logging.getLogger(__name__)

#: Waits, in seconds, before a commit that failed for a passing reason is tried again. After
#: the last one the engine stops.
RETRIES: Final = (0.05, 0.2, 1.0, 5.0)
_PASSING: Final = (apsw.BusyError, apsw.LockedError, apsw.FullError)
#: Seconds. While the log's file is synced faster than this, a commit on the loop's own thread
#: costs everyone less than handing it to another thread and back.
QUICK: Final = 0.002
#: The newest commit's part in how fast commits are.
_NEWEST: Final = 0.2

_EVENT: Final = "(?,?,?,?,?,?,?)"
_INTO: Final = (
    "INSERT INTO litefleet_event(sequence,execution,back,kind,name,occurrence,payload) VALUES "
)
#: One statement for many rows, because each one run lets the other threads in and must queue
#: again; only some sizes, because each is prepared once and kept.
_INSERT_EVENTS: Final = {
    size: _INTO + ",".join([_EVENT] * size) for size in (512, 64, 8, 4, 3, 2, 1)
}
#: For a commit so small that its last event carries its seal.
_INSERT_SEALED: Final = {
    1: "INSERT INTO litefleet_event VALUES (?,?,?,?,?,?,?,?,?)",
    2: "INSERT INTO litefleet_event VALUES (?,?,?,?,?,?,?,NULL,NULL),(?,?,?,?,?,?,?,?,?)",
}
_COLUMNS: Final = 7
_KIND, _NAME = 3, 4
# Plain numbers, which are quicker to compare than the kinds themselves.
_FORKED: Final = int(Kind.FORKED)
_NEW: Final = frozenset({int(Kind.STARTED), _FORKED})
_RESTARTED: Final = int(Kind.RESTARTED)
_OPENED_AGAIN: Final = frozenset({int(Kind.RESTARTED), int(Kind.REOPENED)})
_CLOSED_AS: Final = {int(kind): status for kind, status in CLOSED_AS.items()}
#: A kind above it, up to FORKED, changes nothing but its own table.
_BEYOND: Final = max(int(Kind.STARTED), *_OPENED_AGAIN, *_CLOSED_AS)


@dataclass(slots=True)
class Entry:
    """An event to be written. `after` is called on the loop with its sequence once it is."""

    execution: int
    key: str
    kind: Kind
    name: str
    occurrence: int
    payload: Payload
    after: Callable[[int], None] | None = None
    head: int = 0
    """The execution's previous event, for one that was closed and is opened again."""


@dataclass(slots=True)
class Call:
    """A transactional activity to be run between the events and the commit.

    `perform` runs in the writer's thread and returns the event that its outcome is. `after` is
    called on the loop with that event and its sequence.
    """

    execution: int
    key: str
    name: str
    occurrence: int
    perform: Callable[[WriterTransaction], tuple[Kind, Payload]]
    after: Callable[[Kind, Payload, int], None]
    outcome: tuple[Kind, Payload] | None = None
    broke_transaction: bool = False


class TransactionLost(Exception):
    """The activity's SQL rolled back the whole transaction, and the rest of the commit with it."""


class Job(Protocol):
    """Something else to be done in a transaction, before its events."""

    error: Exception | None
    """Why it was not done; nothing was changed."""

    def perform(self, db: apsw.Connection, at: int, timer: Callable[[], float]) -> Sequence[Entry]:
        """Do it, at `at` (unix ms), and give the events that say so. What it deletes is
        overwritten in the file."""

    def finished(self) -> None:
        """It is committed, or has its `error`. Called on the loop."""


@dataclass(slots=True)
class Batch:
    """What one transaction writes. `at` is its time in unix milliseconds."""

    at: int
    entries: list[Entry] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    job: Job | None = None
    ahead: int = 0
    """How many events of the job come before the entries."""
    then: list[Callable[[], None]] = field(default_factory=list)
    """What is called on the loop as soon as it is committed."""
    first: int = 0
    last: int = 0
    kinds: list[int] = field(default_factory=list)
    names: list[int] = field(default_factory=list)
    """The numbers that its events have in the log for their kinds and names, once it is there."""
    took: float = 0.0
    """Seconds that the file took to be synced."""


class WriterTransaction:
    """What a transactional activity gets: the writer's connection, for as long as it runs."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db: apsw.Connection | None = db
        self.broken = False

    def execute(
        self, sql: str, parameters: Sequence[Any] | dict[str, Any] = (), /
    ) -> Iterator[tuple[Any, ...]]:
        if self._db is None:
            raise RuntimeError("the transaction is over; use it inside its activity only")
        # Past the statement cache: the rules for tenants are checked when a statement is
        # prepared, and one of ours in the cache was prepared under other rules.
        return iter(self._db.execute(sql, parameters, can_cache=False).fetchall())

    def end(self) -> None:
        self._db = None


class Writer:
    """Owns the writing connection, and a thread for the commits that take their time.

    One batch is with the writer at a time: `commit_here` it, or `submit` it and wait for
    `on_committed`. `on_committed` and `on_failed` are called in the writer's thread; the engine
    passes them on to its loop. After a failure nothing more is written. `timer` gives seconds.
    """

    def __init__(
        self,
        db: apsw.Connection,
        tail: End,
        *,
        names: dict[str, int],
        heads: dict[int, int],
        on_committed: Callable[[Batch], None],
        on_failed: Callable[[BaseException], None],
        wait: Callable[[float], None] = time.sleep,
        timer: Callable[[], float] = time.perf_counter,
        inline_limit: int = 1024 * 1024,
    ) -> None:
        self._db = db
        self._shelf = Shelf(db, inline_limit)
        self._tail = tail
        self._names = names
        self._heads = heads
        self._on_committed = on_committed
        self._on_failed = on_failed
        self._wait = wait
        self._timer = timer
        # Until the first one has shown how quick the file is, commits are taken for slow.
        self._pace = 2 * QUICK
        self._busy_timeout = BUSY_TIMEOUT_MS
        self._queue: SimpleQueue[Batch | None] = SimpleQueue()
        self._in_tenant_code = False
        self._thread = threading.Thread(target=self._main, name="log-writer", daemon=True)
        # What is deleted or moved inside a page is overwritten, which costs nothing more to write:
        # else older states of rows stay behind, and a removal does not find them.
        db.pragma("secure_delete", "FAST")
        db.authorizer = self._authorize

    def start(self) -> None:
        self._thread.start()

    def submit(self, batch: Batch) -> None:
        """Commit it in the writer's thread."""
        self._queue.put(batch)

    def commit_here(self, batch: Batch) -> bool:
        """Commit it on the caller's thread, if that is quick.

        False, and nothing is written, where it could take long: a transactional activity, a
        slow file, another one's lock, a full disk. Raises what makes the log unwritable.
        """
        if batch.calls or batch.job is not None or self._pace > QUICK:
            return False
        self._be_patient(0)
        try:
            self._commit(batch)
        except _PASSING:
            return False
        return True

    def close(self) -> None:
        """Finish what was handed over, then end. Blocks until the thread is gone."""
        self._queue.put(None)
        if self._thread.ident is not None:
            self._thread.join()
        self._db.close()

    def _main(self) -> None:
        while (batch := self._queue.get()) is not None:
            try:
                self._be_patient(BUSY_TIMEOUT_MS)
                self._commit_somehow(batch)
            except BaseException as error:
                logger.critical("the log cannot be written: %s", error)
                self._on_failed(error)
                return
            self._on_committed(batch)

    def head(self, execution: int) -> int:
        """The newest committed event of an open execution; 0 when it is not known here."""
        return self._heads.get(execution, 0)

    def lacks(self, key: str) -> bool:
        """Whether the log has no execution with this id. For when no batch is with the writer:
        what this connection has just written it still has at hand."""
        found = self._db.execute("SELECT 1 FROM litefleet_execution WHERE key = ?", (key,))
        return not found.fetchall()

    def _be_patient(self, milliseconds: int) -> None:
        """How long SQLite itself waits for another one's lock."""
        if self._busy_timeout != milliseconds:
            self._db.set_busy_timeout(milliseconds)
            self._busy_timeout = milliseconds

    def _commit_somehow(self, batch: Batch) -> None:
        for _ in range(len(batch.calls)):
            try:
                return self._commit_or_retry(batch)
            except TransactionLost:
                continue
        return self._commit_or_retry(batch)

    def _commit_or_retry(self, batch: Batch) -> None:
        for pause in RETRIES:
            try:
                return self._commit(batch)
            except _PASSING as error:
                logger.warning("a commit failed and is tried again in %s s: %s", pause, error)
                self._wait(pause)
        return self._commit(batch)

    def _commit(self, batch: Batch) -> None:
        if batch.job is None:
            return self._transact(batch)
        # Pages that become free hold nothing then, which costs writing them.
        self._db.pragma("secure_delete", "ON")
        try:
            return self._transact(batch)
        finally:
            self._db.pragma("secure_delete", "FAST")

    def _transact(self, batch: Batch) -> None:
        db = self._db
        shelf, sure = self._shelf, self._shelf.sure
        try:
            job = batch.job
            if job is not None or batch.calls:
                db.execute("BEGIN IMMEDIATE")
            # Everything that the next batch builds on is published only after the commit.
            names: dict[str, int] = {}
            heads: dict[int, int] = {}
            values: list[int | str | bytes | None] = []
            digests: list[bytes] = []
            started: list[tuple[int, str, int, int]] = []
            closed: list[tuple[int, int, int]] = []
            reopened: list[tuple[int | None, int]] = []
            relabelled: Relabelling | None = None
            known, previous = self._names, self._heads
            sequence = self._tail.sequence
            entries = batch.entries
            if job is not None or batch.calls:
                done = () if job is None else self._done(job, batch.at)
                batch.ahead = len(done)
                entries = [*done, *entries, *map(self._performed, batch.calls)]
            for entry in entries:
                sequence += 1
                execution, key, name = entry.execution, entry.key, entry.name
                number = known.get(name) or names.get(name)
                if number is None:
                    number = names[name] = len(known) + len(names) + 1
                before = heads.get(execution) or previous.get(execution) or entry.head
                heads[execution] = sequence
                back = sequence - before if before else 0
                kind, nth = int(entry.kind), entry.occurrence
                payload: Kept = entry.payload
                if payload.__class__ is str and len(payload) > sure:
                    if not db.in_transaction:
                        db.execute("BEGIN IMMEDIATE")
                    payload = shelf.keep(payload)
                values += (sequence, execution, back, kind, number, nth, payload)
                digests.append(chain.digest(sequence, key, kind, name, nth, payload))
                if kind in _LABELLING:
                    relabelled = relabelled or Relabelling()
                    relabelled.add(execution, kind, entry.payload)
                if _BEYOND < kind < _FORKED:
                    continue
                if kind in _NEW:
                    started.append((execution, key, number, sequence))
                elif kind in _OPENED_AGAIN:
                    if kind == _RESTARTED and not back:
                        # Of the one that had this id, nothing is left.
                        started.append((execution, key, number, sequence))
                        continue
                    reopened.append((sequence if kind == _RESTARTED else None, execution))
                elif kind in _CLOSED_AS:
                    closed.append((sequence, _CLOSED_AS[kind], execution))
            value = chain.seal(self._tail.chain, batch.at, digests)
            sealed = _INSERT_SEALED.get(len(digests))
            several = sealed is None or names or started or reopened or closed or relabelled
            if several and not db.in_transaction:
                db.execute("BEGIN IMMEDIATE")
            if names:
                db.executemany(
                    "INSERT INTO litefleet_name VALUES (?, ?)",
                    [(number, name) for name, number in names.items()],
                )
            if started:
                db.executemany(
                    "INSERT INTO litefleet_execution VALUES (?, ?, ?, ?, NULL, 0)", started
                )
            kinds = cast("list[int]", values[_KIND::_COLUMNS])
            numbers = cast("list[int]", values[_NAME::_COLUMNS])
            begun = 0.0 if db.in_transaction else self._timer()
            if not digests:
                # A job that had nothing to say.
                value = self._tail.chain
            elif sealed is not None:
                values += (batch.at, value)
                # Where it is all of the commit, it is a transaction by itself.
                db.execute(sealed, values)
            else:
                self._insert_events(values)
                row = (sequence, batch.at, value)
                db.execute("INSERT INTO litefleet_commit VALUES (?, ?, ?)", row)
            if reopened:
                # An execution is opened again only after the commit that closed it.
                db.executemany(
                    "UPDATE litefleet_execution SET started = coalesce(?, started), closed = NULL,"
                    " status = 0 WHERE id = ?",
                    reopened,
                )
            if closed:
                db.executemany(
                    "UPDATE litefleet_execution SET closed = ?, status = ? WHERE id = ?", closed
                )
            if relabelled is not None:
                relabelled.write(db)
            if db.in_transaction:
                begun = self._timer()
                db.execute("COMMIT")
            batch.took = self._timer() - begun
            self._pace += _NEWEST * (batch.took - self._pace)
        except BaseException:
            if db.in_transaction:
                with suppress(apsw.Error):
                    db.execute("ROLLBACK")
            raise
        batch.kinds, batch.names = kinds, numbers
        batch.first, batch.last = self._tail.sequence + 1, sequence
        self._tail = End(sequence, batch.at if digests else self._tail.at, value)
        if names:
            self._names.update(names)
        self._heads.update(heads)
        for _, _, execution in closed:
            self._heads.pop(execution, None)

    def _insert_events(self, values: list[int | str | bytes | None]) -> None:
        done, end = 0, len(values)
        for size, insert in _INSERT_EVENTS.items():
            width = size * _COLUMNS
            while end - done >= width:
                # Not copied where it is all of them, which is most often.
                part = values if width == end else values[done : done + width]
                self._db.execute(insert, part)
                done += width

    def _done(self, job: Job, at: int) -> Sequence[Entry]:
        db = self._db
        db.execute("SAVEPOINT job")
        job.error = None
        try:
            entries = job.perform(db, at, self._timer)
        except _PASSING:
            raise
        except Exception as error:
            # What it was to change may be damaged, and the rest of the log is not.
            db.execute("ROLLBACK TO job")
            job.error, entries = error, ()
        db.execute("RELEASE job")
        return entries

    def _performed(self, call: Call) -> Entry:
        kind, payload = call.outcome = self._perform(call)
        return Entry(call.execution, call.key, kind, call.name, call.occurrence, payload)

    def _perform(self, call: Call) -> tuple[Kind, Payload]:
        db = self._db
        db.execute("SAVEPOINT activity")
        transaction = WriterTransaction(db)
        # One that broke the transaction is not run again in this commit; it is told why.
        transaction.broken = call.broke_transaction
        self._in_tenant_code = True
        try:
            kind, payload = call.perform(transaction)
        finally:
            self._in_tenant_code = False
            transaction.end()
        if not db.in_transaction:
            call.broke_transaction = True
            raise TransactionLost(call.name)
        if kind is not Kind.STEP_COMPLETED:
            db.execute("ROLLBACK TO activity")
        db.execute("RELEASE activity")
        return kind, payload

    def _authorize(
        self, action: int, one: str | None, two: str | None, _db: str | None, source: str | None
    ) -> int:
        if not self._in_tenant_code:
            return apsw.SQLITE_OK
        if action in _NEVER:
            return apsw.SQLITE_DENY
        # SQLite changes its own schema table when a tenant makes a table, and that is fine.
        if action in _WRITES and any(_is_ours(name) for name in (one, two)):
            return apsw.SQLITE_DENY
        return apsw.SQLITE_OK


def _is_ours(name: str | None) -> bool:
    return name is not None and (name.lower().startswith(OWN_PREFIX) or name.lower() in OWN_VIEWS)


_NEVER: Final = frozenset(
    {
        apsw.SQLITE_TRANSACTION,
        apsw.SQLITE_SAVEPOINT,
        apsw.SQLITE_ATTACH,
        apsw.SQLITE_DETACH,
        apsw.SQLITE_PRAGMA,
    }
)
_WRITES: Final = frozenset(
    {
        apsw.SQLITE_INSERT,
        apsw.SQLITE_UPDATE,
        apsw.SQLITE_DELETE,
        apsw.SQLITE_ALTER_TABLE,
        apsw.SQLITE_CREATE_INDEX,
        apsw.SQLITE_CREATE_TEMP_INDEX,
        apsw.SQLITE_CREATE_TABLE,
        apsw.SQLITE_CREATE_TEMP_TABLE,
        apsw.SQLITE_CREATE_TRIGGER,
        apsw.SQLITE_CREATE_TEMP_TRIGGER,
        apsw.SQLITE_CREATE_VIEW,
        apsw.SQLITE_CREATE_TEMP_VIEW,
        apsw.SQLITE_CREATE_VTABLE,
        apsw.SQLITE_DROP_INDEX,
        apsw.SQLITE_DROP_TABLE,
        apsw.SQLITE_DROP_TRIGGER,
        apsw.SQLITE_DROP_VIEW,
        apsw.SQLITE_DROP_VTABLE,
    }
)
