"""Which executions and histories are due to be removed: looked up in slices, so that no reader is
long and nobody waits for one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from node.engine.events import GOING, RESERVED, STATUS_CODES, Kind
from node.engine.retention import RECORD, Rules
from node.engine.seals import last_before
from node.engine.store import Store

#: Rows that one look goes through.
SLICE: Final = 1000
_HELD: Final = "EXISTS (SELECT 1 FROM litefleet_hold WHERE execution = x.id)"
_CLOSED: Final = (
    "SELECT x.id, x.workflow, x.status, x.closed FROM litefleet_execution x"
    f" WHERE x.id > ? AND x.id <= ? AND x.closed <= ? AND x.status < {GOING} AND NOT {_HELD}"
    " ORDER BY x.id"
)
_ABOUT: Final = (
    "SELECT x.key, o.payload FROM litefleet_execution x LEFT JOIN litefleet_event o"
    " ON o.sequence = x.started + 1 AND o.execution = x.id"
    f" AND o.kind = {Kind.ORIGIN.value} WHERE x.id = ?"
)
#: What the index is over, word by word.
_AGAIN: Final = f"e.kind IN ({Kind.CONTINUED.value}, {Kind.RESTARTED.value})"
# Of those that continued, which have anything between their start and there; of those whose id
# was used again, which have anything before.
_CONTINUED: Final = (
    "SELECT e.sequence, e.execution, x.workflow, x.key FROM litefleet_event e"
    " INDEXED BY litefleet_again JOIN litefleet_execution x ON x.id = e.execution"
    " LEFT JOIN litefleet_event o ON o.sequence = x.started + 1 AND o.execution = x.id"
    f" AND o.kind = {Kind.ORIGIN.value}"
    f" WHERE {_AGAIN} AND e.kind = {Kind.CONTINUED.value} AND e.sequence > ? AND e.sequence <= ?"
    f" AND e.sequence - e.back > coalesce(o.sequence, x.started) AND x.status < {GOING}"
    f" AND NOT {_HELD} ORDER BY e.sequence LIMIT ?"
)
_RESTARTED: Final = (
    "SELECT e.sequence, e.execution, x.workflow, x.key FROM litefleet_event e"
    " INDEXED BY litefleet_again JOIN litefleet_execution x ON x.started = e.sequence"
    " AND x.id = e.execution"
    f" WHERE {_AGAIN} AND e.kind = {Kind.RESTARTED.value} AND e.sequence > ? AND e.sequence <= ?"
    f" AND e.back > 0 AND x.status < {GOING} AND NOT {_HELD} ORDER BY e.sequence LIMIT ?"
)


@dataclass(frozen=True, slots=True)
class Execution:
    """A closed execution whose time has come."""

    rowid: int
    id: str
    workflow: str
    status: str
    closed: int


@dataclass(frozen=True, slots=True)
class History:
    """What an execution has before the event `beginning`."""

    rowid: int
    id: str
    workflow: str
    beginning: int


class Due:
    """What the rules of one log remove at one time.

    `now` in unix ms; `newest` is the newest event that may be removed. `least` ms are kept
    whatever the rules say. `needed` tells whether an open parent has not heard yet of the end of
    the child that its step started, `followed` whether somebody reads what an execution published.
    """

    def __init__(
        self,
        store: Store,
        rules: Rules,
        *,
        now: int,
        newest: int,
        least: int,
        needed: Callable[[str, tuple[str, int]], bool],
        followed: Callable[[str], bool],
    ) -> None:
        self._store = store
        self._rules = rules
        self._now = now
        self._newest = newest
        self._least = least
        self._needed = needed
        self._followed = followed
        self._names = {number: name for name, number in store.names().items()}
        self._bounds: dict[int, int] = {}
        self._kept: dict[tuple[int, int], int] = {}

    def executions(self) -> Iterator[list[Execution]]:
        """Closed ones, a slice of the log at a time."""
        last, at = self._store.last_rowid(), 0
        while at < last:
            rows = self._store.rows(_CLOSED, (at, at + SLICE, self._newest))
            at += SLICE
            yield [
                one
                for rowid, workflow, status, closed in rows
                if closed <= self._bound(workflow, status)
                and (one := self._execution(rowid, workflow, status, closed)) is not None
            ]

    def histories(self) -> Iterator[list[History]]:
        """Superseded ones, a slice at a time, and at most one of an execution in each."""
        for sql in (_RESTARTED, _CONTINUED):
            at = 0
            while True:
                rows = self._store.rows(sql, (at, self._newest, SLICE))
                if not rows:
                    break
                at = rows[-1][0]
                # Of several, the newest one goes with those before it.
                found = {
                    rowid: History(rowid, key, self._names[workflow], beginning)
                    for beginning, rowid, workflow, key in rows
                    if beginning <= self._history_bound(workflow)
                }
                yield list(found.values())

    def _execution(self, rowid: int, workflow: int, status: int, closed: int) -> Execution | None:
        rows = self._store.rows(_ABOUT, (rowid,))
        if not rows or rows[0][0] == RECORD:
            return None
        key, origin = rows[0]
        if self._followed(key):
            return None
        if origin is not None:
            body = json.loads(origin)
            if "parent" in body and "detached" not in body:
                name, number = body["step"]
                if self._needed(body["parent"], (name, number)):
                    return None
        name = self._names[workflow]
        return Execution(rowid, key, name, STATUS_CODES[status].value, closed)

    def _bound(self, workflow: int, status: int) -> int:
        """The newest event that an execution of this kind may have ended with."""
        known = self._kept.get((workflow, status))
        if known is None:
            name = self._names[workflow]
            known = self._before(self._rules.keep(name, STATUS_CODES[status]))
            self._kept[workflow, status] = known
        return known

    def _history_bound(self, workflow: int) -> int:
        name = self._names[workflow]
        keep = self._rules.history(name)
        if name.startswith(RESERVED) and keep is None:
            # The engine's own go on for ever, and nobody would miss what they did before.
            keep = self._rules.shortest
        return self._before(keep)

    def _before(self, keep: int | None) -> int:
        if keep is None:
            return 0
        keep = max(keep, self._least)
        if keep not in self._bounds:
            self._bounds[keep] = last_before(self._store.reader, self._now - keep, self._newest)
        return self._bounds[keep]


def expired(store: Store, low: int, high: int, day: int) -> bool:
    """Whether any of the removed ids in this range need not be remembered on this day."""
    sql = "SELECT EXISTS (SELECT 1 FROM litefleet_gone WHERE id BETWEEN ? AND ? AND until < ?)"
    return bool(store.rows(sql, (low, high, day))[0][0])
