"""The open executions of a log as they stood at one moment, read while the log is in use.

Nothing here reads for long at a time: a long read would keep the sidecar from checkpointing, and
the WAL would grow. That the parts fit together is because a log is only ever added to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import apsw

from node.engine import schema
from node.engine.events import BEGINNINGS, CLOSING, Event
from node.engine.inspection import Owner, opened, owner_of
from node.engine.store import read_events, read_history

#: Events that one statement goes through.
STRIDE: Final = 20_000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A log as it was after event `sequence`; `count` executions were open."""

    owner: Owner
    sequence: int
    count: int
    histories: Iterator[list[Event]]
    """The events of each since it last began, in the order of their start. One that has ended
    since and is gone is left out."""


@contextmanager
def snapshot(path: Path | str) -> Iterator[Snapshot]:
    """The open executions of the log at `path`, in use or not. Raises LogMissing, LogRefused,
    LogDamaged."""
    path = Path(path)
    owner = owner_of(path)
    # Whoever has it open has these files, too, even if they are empty for now.
    in_use = any(path.with_name(path.name + end).exists() for end in ("-wal", "-shm"))
    with opened(path, in_use=in_use) as db:
        if schema.version_of(db, path) < schema.VERSION:
            yield _old(db, schema.version_of(db, path), owner)
            return
        if in_use:
            db.execute("BEGIN")
        try:
            rows: list[Any] = db.execute(
                "SELECT id, key, started FROM litefleet_execution WHERE closed IS NULL ORDER BY id"
            ).fetchall()
            [(newest,)] = db.execute("SELECT max(sequence) FROM litefleet_event").fetchall()
        finally:
            db.execute("COMMIT")
        last = int(cast(Any, newest) or 0)
        yield Snapshot(owner, last, len(rows), _histories(db, rows, last))


def _histories(
    db: apsw.Connection, rows: list[tuple[int, str, int]], last: int
) -> Iterator[list[Event]]:
    heads = _heads(db, {row[0] for row in rows}, min((row[2] for row in rows), default=0), last)
    names: dict[int, str] = {}
    for rowid, key, _ in rows:
        if rowid in heads:
            history = read_history(db, names, key, heads[rowid])
            if history and history[0].kind in BEGINNINGS:
                yield history


def _heads(db: apsw.Connection, wanted: set[int], first: int, last: int) -> dict[int, int]:
    """The newest event of each of these executions, from event `first` to `last`."""
    heads: dict[int, int] = {}
    for start in range(first, last + 1, STRIDE):
        found: list[Any] = db.execute(
            "SELECT execution, max(sequence) FROM litefleet_event"
            " WHERE sequence BETWEEN ? AND ? GROUP BY execution",
            (start, min(start + STRIDE - 1, last)),
        ).fetchall()
        heads |= {execution: head for execution, head in found if execution in wanted}
    return heads


def _old(db: apsw.Connection, version: int, owner: Owner) -> Snapshot:
    """That of a log which an older version of Litefleet wrote, and nobody has open."""
    histories = since_begun(read_events(db, version))
    still = [history for history in histories if history[-1].kind not in CLOSING]
    last = max((history[-1].sequence for history in histories), default=0)
    return Snapshot(owner, last, len(still), iter(still))


def since_begun(events: Iterable[Event]) -> list[list[Event]]:
    """The events of each execution since it last began."""
    histories: dict[str, list[Event]] = {}
    for event in events:
        if event.kind in BEGINNINGS:
            histories[event.execution] = []
        histories[event.execution].append(event)
    return list(histories.values())
