"""Finds executions by what they are: pages, and counts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import apsw

from node.engine import seals
from node.engine.events import RESERVED, STATUS_CODES, Status
from node.engine.schema import fetch_all
from node.engine.selection import (
    DIVERGED,
    PARKED,
    QUEUED,
    SPAN,
    Known,
    Order,
    Place,
    Selection,
    moments,
    status_code,
    where,
)
from node.engine.store import SUMMARY, WHOLE, Stored, stored_of_row

#: Seconds after which a page is given as far as it has come.
ENOUGH: Final = 0.5
_STATUSES: Final = {
    **STATUS_CODES,
    QUEUED: Status.QUEUED,
    DIVERGED: Status.DIVERGED,
    PARKED: Status.PARKED,
}


@dataclass(frozen=True, slots=True)
class Found:
    """Some executions. `next` is where to go on; None after the last."""

    items: list[Stored]
    next: Place | None


@dataclass(frozen=True, slots=True)
class Grouped:
    """How many have this in common, as far as it was asked for."""

    workflow: str | None
    status: Status | None
    count: int


def page(
    db: apsw.Connection,
    selection: Selection,
    known: Known,
    *,
    order: Order,
    after: Place | None,
    limit: int,
    whole: bool = False,
    timer: Callable[[], float] = time.monotonic,
) -> Found:
    """Executions in the order of their first start, after a place; the `whole` of them, or
    without input and outcome.

    Where each has to be looked up, a page may hold fewer than `limit`, even none, though there
    are more: it is given after a while as far as it has come.
    """
    known = _looked_up(db, selection, known)
    newest, shown = order == "newest", WHOLE if whole else SUMMARY
    ((highest,),) = fetch_all(db, "SELECT coalesce(max(id), 0) FROM litefleet_execution")
    at = (highest + 1 if newest else 0) if after is None else after.number
    until = timer() + ENOUGH
    items: list[Stored] = []
    while True:
        low, high = (0, at - 1) if newest else (at + 1, highest)
        if selection.slow:
            low, high = (max(low, high - SPAN), high) if newest else (low, min(high, low + SPAN))
        wanted = limit - len(items) + 1
        items += _span(db, shown, selection, known, (low, high), newest, wanted)
        if len(items) > limit:
            return Found(items[:limit], Place(order, items[limit - 1].rowid))
        if low <= 1 if newest else high >= highest:
            return Found(items, None)
        at = low if newest else high
        if timer() >= until:
            return Found(items, Place(order, at))


def count(
    db: apsw.Connection, selection: Selection, known: Known, by: frozenset[str]
) -> list[Grouped]:
    """How many there are; `by` is which of "workflow" and "status" are counted apart."""
    known = _looked_up(db, selection, known)
    condition = where(selection, known)
    code, values = status_code(known) if "status" in by else ("NULL", [])
    workflow = "x.workflow" if "workflow" in by else "NULL"
    rows = fetch_all(
        db,
        f"SELECT {workflow}, {code}, count(*) FROM litefleet_execution x WHERE {condition.sql}"
        " GROUP BY 1, 2",
        (*values, *condition.values),
    )
    names = dict(fetch_all(db, "SELECT id, name FROM litefleet_name"))
    found = [Grouped(names.get(number), _STATUSES.get(code), n) for number, code, n in rows]
    return sorted(found, key=lambda one: (one.workflow or "", one.status or ""))


def _span(
    db: apsw.Connection,
    shown: str,
    selection: Selection,
    known: Known,
    span: tuple[int, int],
    newest: bool,
    limit: int,
) -> list[Stored]:
    condition = where(selection, known)
    # With a plus SQLite does not go through all executions because they are in order already.
    column = "+x.id" if selection.by_id else "x.id"
    condition.add(f"{column} BETWEEN ? AND ?", *span)
    # First which ones: what is shown of them is looked up only for these.
    rows = fetch_all(
        db,
        f"{shown} WHERE x.id IN (SELECT x.id FROM litefleet_execution x WHERE {condition.sql}"
        f" ORDER BY {column} {'DESC' if newest else ''} LIMIT ?)"
        f" ORDER BY x.id {'DESC' if newest else ''}",
        (*condition.values, limit),
    )
    return [stored_of_row(row) for row in rows]


def _looked_up(db: apsw.Connection, selection: Selection, known: Known) -> Known:
    """With what the log says of the moments and the names that are asked for."""
    ((newest,),) = fetch_all(db, "SELECT coalesce(max(sequence), 0) FROM litefleet_event")
    times = {at: seals.last_before(db, int(at * 1000) - 1, newest) for at in moments(selection)}
    names = fetch_all(db, "SELECT id, name FROM litefleet_name")
    return replace(
        known,
        times=times,
        workflows=tuple(number for number, name in names if name in selection.workflows),
        system=tuple(number for number, name in names if name.startswith(RESERVED)),
    )
