"""Where commits end: which events were committed together, when, and the chain's value then.

A commit of one or two events has its seal (`at`, `chain`) in its last event; a larger one, and
every one that versions 1 and 2 wrote, has a row in litefleet_commit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple, cast

import apsw

from node.engine.blobs import Kept

#: The most events of a commit that is sealed by its last event.
MOST: Final = 2
_BEYOND: Final = 2**63 - 1


class Row(NamedTuple):
    """A row of litefleet_event. `at` and `chain` are its seal, None where it has none."""

    sequence: int
    execution: int
    back: int
    kind: int
    name: int
    occurrence: int
    payload: Kept
    at: int | None
    chain: bytes | None


class End(NamedTuple):
    """The end of a commit: its last sequence, its time (unix ms), the chain's value."""

    sequence: int
    at: int
    chain: bytes


# The next event is asked only after the row: it may have the seal of a commit of its own.
TIMES: Final = """
CREATE VIEW litefleet_time AS
  SELECT e.sequence, coalesce(e.at,
    (SELECT at FROM litefleet_commit WHERE sequence = e.sequence),
    (SELECT at FROM litefleet_event WHERE sequence = e.sequence + 1),
    (SELECT at FROM litefleet_commit WHERE sequence > e.sequence ORDER BY sequence LIMIT 1)) AS at
  FROM litefleet_event e;
"""


def time_of(sequence: str) -> str:
    """SQL for the time (unix ms) of the commit that holds this sequence; NULL for NULL."""
    return f"(SELECT at FROM litefleet_time WHERE sequence = {sequence})"


def columns(version: int) -> str:
    """The columns of litefleet_event, as `Row` has them, in a log of this version."""
    own = "sequence, execution, back, kind, name, occurrence, payload"
    return f"{own}, at, chain" if version > 2 else f"{own}, NULL, NULL"


def rows(db: apsw.Connection, version: int) -> Iterator[Row]:
    """Every event, in order."""
    sql = f"SELECT {columns(version)} FROM litefleet_event ORDER BY sequence"
    return map(Row._make, db.execute(sql))


def ends(db: apsw.Connection, version: int) -> Iterator[End]:
    """Every commit, in order, beginning with the log's own beginning at sequence 0."""
    sealed = " UNION ALL SELECT sequence, at, chain FROM litefleet_event WHERE at IS NOT NULL"
    sql = f"SELECT * FROM litefleet_commit{sealed if version > 2 else ''} ORDER BY 1"
    return map(End._make, db.execute(sql))


def end_at(db: apsw.Connection, version: int, sequence: int) -> End | None:
    """The commit whose last event is this one."""
    sql = "SELECT sequence, at, chain FROM litefleet_commit WHERE sequence = ?1"
    if version > 2:
        sql += (
            " UNION ALL SELECT sequence, at, chain FROM litefleet_event"
            " WHERE sequence = ?1 AND at IS NOT NULL"
        )
    found: list[Any] = db.execute(sql, (sequence,)).fetchall()
    return End(*found[0]) if found else None


def time_at(db: apsw.Connection, version: int, sequence: int) -> int | None:
    """When the commit with this event was made (unix ms), None when there is none. Of an event
    that was removed, the time of the next one that is left."""
    sql = "(SELECT at FROM litefleet_time WHERE sequence >= ?1 ORDER BY sequence LIMIT 1)"
    if version < 3:
        sql = "(SELECT at FROM litefleet_commit WHERE sequence >= ?1 ORDER BY sequence LIMIT 1)"
    ((at,),) = cast("list[tuple[int | None]]", db.execute(f"SELECT {sql}", (sequence,)).fetchall())
    return at


def newest(db: apsw.Connection, version: int) -> list[End]:
    """The newest commit, and the one before it if there is one."""
    found: list[Any] = db.execute(
        "SELECT * FROM litefleet_commit ORDER BY sequence DESC LIMIT 2"
    ).fetchall()
    if version > 2 and found:
        # After the newest row there are seals only. Before it come its own events, then others.
        last = found[0][0]
        found += _sealed(db, last, _BEYOND) or _sealed(db, found[-1][0], last)
    return [End(*row) for row in sorted(found, reverse=True)[:2]]


def _sealed(db: apsw.Connection, low: int, high: int) -> list[Any]:
    return db.execute(
        "SELECT sequence, at, chain FROM litefleet_event WHERE sequence > ? AND sequence < ?"
        " AND at IS NOT NULL ORDER BY sequence DESC LIMIT 2",
        (low, high),
    ).fetchall()


def last_before(db: apsw.Connection, at: int, newest: int) -> int:
    """A sequence up to which everything was logged at `at` (unix ms) at the latest, and nothing
    after it, as far as the `newest` event."""
    low, high = 0, newest
    while low < high:
        middle = (low + high + 1) // 2
        # Of an event that was removed no time is known, but that of one before it.
        found: list[Any] = db.execute(
            "SELECT sequence, at FROM litefleet_time WHERE sequence BETWEEN ? AND ?"
            " ORDER BY sequence DESC LIMIT 1",
            (low + 1, middle),
        ).fetchall()
        if not found or found[0][1] <= at:
            low = middle
        else:
            high = found[0][0] - 1
    return low
