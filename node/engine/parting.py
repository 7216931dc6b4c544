"""A copy of a tenant's log becomes another tenant's: under a new name, with all that was open held.

It is done to a file that no engine and no sidecar has open, and that is thrown away if it is not
done to its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from node.engine.beginning import Beginning, Post, compact, standing
from node.engine.errors import LogRefused
from node.engine.events import RESERVED, Event, Kind, letter
from node.engine.identities import INHERITED
from node.engine.inspection import owner_of
from node.engine.schedule_state import CHANGED, SCHEDULE, State
from node.engine.schema import connect
from node.engine.store import Store, Stored
from node.engine.writer import Batch, Entry, Writer


@dataclass(frozen=True, slots=True)
class Parted:
    """What was held back: open executions, and schedules. `until` is the last event that the two
    logs have in common."""

    until: int
    executions: int
    schedules: int


def part(path: Path, *, tenant: str, lineage: str, reason: str, now: Callable[[], int]) -> Parted:
    """Make the log at `path` that of `tenant` in `lineage`, with every open execution and every
    schedule paused for `reason`. `now` gives unix milliseconds.

    Raises LogInUse, LogMissing, LogDamaged, LogRefused.
    """
    before = owner_of(path)
    if before.lineage == lineage:
        raise LogRefused(f"{path} is of lineage {lineage} already; a fork begins another one")
    store = Store(path, tenant=before.tenant, lineage=before.lineage, create=False, now=now)
    try:
        until = store.tail.sequence
        held = list(_held(store, compact(reason[:500])))
        if held:
            _write(store, held, max(now(), store.tail.at))
        identities = store.identities.forked(until, tenant, lineage)
    finally:
        store.close(gracefully=True)
    with closing(connect(path)) as db, db:
        rows = (("tenant", tenant), ("lineage", lineage), (INHERITED, identities.row()))
        db.executemany("INSERT OR REPLACE INTO litefleet_meta VALUES (?, ?)", rows)
    with closing(connect(path)) as db:
        # Nobody streams it yet, and it must be one file when somebody begins to.
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    schedules = sum(entry.kind is Kind.SIGNAL for entry in held)
    return Parted(until, len(held) - schedules, schedules)


def _held(store: Store, reason: str) -> Iterator[Entry]:
    heads = store.heads()
    for stored in store.open_executions():
        history = standing(store.history(stored.id, heads[stored.rowid]))
        if stored.workflow == SCHEDULE:
            yield from _schedule(stored, history, reason)
        elif not stored.workflow.startswith(RESERVED) and not _is_paused(history):
            yield Entry(stored.rowid, stored.id, Kind.PAUSED, stored.workflow, 1, reason)


def _schedule(stored: Stored, history: list[Event], reason: str) -> Iterator[Entry]:
    if State.of(history).paused is None:
        number = Post.of(history).add(Kind.SIGNAL, CHANGED, None)
        change = f'{{"do":"pause","note":{reason}}}'
        yield Entry(stored.rowid, stored.id, Kind.SIGNAL, CHANGED, number, letter(change, None))


def _is_paused(history: list[Event]) -> bool:
    paused = Beginning.of(history[0]).paused
    for event in history:
        if event.kind in (Kind.PAUSED, Kind.RESUMED):
            paused = event.kind is Kind.PAUSED
    return paused


def _write(store: Store, entries: list[Entry], at: int) -> None:
    """One commit."""
    done: SimpleQueue[BaseException | None] = SimpleQueue()
    db = connect(store.path)
    writer = Writer(
        db,
        store.tail,
        names=store.names(),
        heads=store.heads(),
        on_committed=lambda _: done.put(None),
        on_failed=done.put,
    )
    writer.start()
    try:
        writer.submit(Batch(at, entries))
        failed = done.get()
    finally:
        writer.close()
    if failed is not None:
        raise failed
