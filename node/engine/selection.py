"""Which executions somebody wants to see: a filter as a value, and the SQL that finds them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from node.engine.errors import PayloadError
from node.engine.events import GOING, RESERVED, STATUS_CODES, Kind, Status

Order = Literal["oldest", "newest"]
#: Executions that are looked at in one go where each has to be looked up in the log.
SPAN: Final = 20_000
_CODES: Final = {status: code for code, status in STATUS_CODES.items()}
#: How an execution stands that the log has as open; which of it, only the engine knows.
OPEN: Final = frozenset({Status.RUNNING, Status.QUEUED, Status.DIVERGED, Status.PARKED})
#: The numbers of those of them that have none in the log.
QUEUED: Final = -1
DIVERGED: Final = -2
PARKED: Final = -3
#: SQL for the names of the engine's own workflows: what is between the prefix and the same with its
#: last character counted up.
SYSTEM: Final = (
    "(SELECT id FROM litefleet_name"
    f" WHERE name >= '{RESERVED}' AND name < '{RESERVED[:-1]}{chr(ord(RESERVED[-1]) + 1)}')"
)
#: Where an execution comes from is in the very next event, if there is anything to say.
_ORIGIN: Final = (
    "(SELECT json_extract(o.payload, ?) FROM litefleet_event o"
    f" WHERE o.sequence = x.started + 1 AND o.execution = x.id AND o.kind = {Kind.ORIGIN.value})"
)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which executions: those for which all of it is so. Of several statuses or workflows one must
    be so, of labels all. Moments are unix seconds: `after` them or at them, and `before` them.

    Executions of the engine's own workflows are left out unless `system` says otherwise, or
    `workflows` names one.
    """

    statuses: frozenset[Status] = frozenset()
    workflows: frozenset[str] = frozenset()
    prefix: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    started_after: float | None = None
    started_before: float | None = None
    closed_after: float | None = None
    closed_before: float | None = None
    parent: str | None = None
    queue: str | None = None
    version: str | None = None
    failures: bool | None = None
    system: bool = False

    @property
    def slow(self) -> bool:
        """Whether each execution has to be looked up in the log."""
        return self.queue is not None or self.version is not None

    @property
    def by_id(self) -> bool:
        """Whether ids lead to what is wanted sooner than going through everything in order."""
        return self.prefix is not None or self.parent is not None

    @property
    def parts_open_ones(self) -> bool:
        """Whether it matters which of the open ones are queued or diverged."""
        return bool(self.statuses & OPEN) and not self.statuses >= OPEN


@dataclass(frozen=True, slots=True)
class Place:
    """How far a list was read: the order, and the last execution's number. Opaque as text."""

    order: Order
    number: int

    @staticmethod
    def read(text: str) -> Place:
        """Raises PayloadError."""
        orders: dict[str, Order] = {"o": "oldest", "n": "newest"}
        if text.isdecimal():
            # As it was before there were two orders; 0 is the beginning.
            text = f"o{text}"
        if text[:1] not in orders or not text[1:].isdecimal() or len(text) > 20:
            raise PayloadError(
                f"{text!r} is no place in a list", hint="Give the `next` of the page before."
            )
        return Place(orders[text[0]], int(text[1:]))

    def __str__(self) -> str:
        return f"{self.order[0]}{self.number}"


@dataclass(slots=True)
class Where:
    """A condition in SQL, with its values."""

    terms: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def add(self, term: str, *values: Any) -> None:
        self.terms.append(term)
        self.values += values

    @property
    def sql(self) -> str:
        return " AND ".join(f"({term})" for term in self.terms) or "1"


@dataclass(frozen=True, slots=True)
class Known:
    """What the log does not say at once. From the engine: the numbers of open executions that are
    queued, diverged or parked, and the ids of a parent's children. From the log, looked up before:
    the newest event before each moment of the selection, the numbers of the workflows that it
    names, and of the engine's own."""

    queued: tuple[int, ...] = ()
    diverged: tuple[int, ...] = ()
    parked: tuple[int, ...] = ()
    children: tuple[str, ...] = ()
    times: Mapping[float, int] = field(default_factory=dict)
    workflows: tuple[int, ...] = ()
    system: tuple[int, ...] = ()


def where(selection: Selection, known: Known) -> Where:
    """The condition that an execution `x` fulfils."""
    found = Where()
    # What is being removed is there no more for anybody.
    found.add(f"x.status < {GOING}")
    # Numbers as they are: where everything is looked at, that takes a third of the time.
    if selection.workflows:
        found.add(_among("x.workflow", known.workflows))
    elif known.system and not selection.system:
        found.add(f"NOT {_among('x.workflow', known.system)}")
    if selection.statuses:
        _statuses(found, selection, known)
    if selection.prefix:
        # What begins so is below the same with its last character counted up.
        last = chr(min(ord(selection.prefix[-1]) + 1, 0x10FFFF))
        found.add("x.key >= ? AND x.key < ?", selection.prefix, selection.prefix[:-1] + last)
    for name, value in selection.labels:
        found.add(
            "x.id IN (SELECT execution FROM litefleet_label WHERE name = ? AND value = ?)",
            name,
            value,
        )
    _times(found, selection, known)
    if selection.parent is not None:
        found.add("x.key IN (SELECT value FROM json_each(?))", json.dumps(known.children))
        found.add(f"{_ORIGIN} = ?", "$.parent", selection.parent)
    if selection.queue is not None:
        found.add(f"{_ORIGIN} = ?", "$.queue.name", selection.queue)
    if selection.version is not None:
        found.add(f"{_ORIGIN} = ?", "$.version", selection.version)
    if selection.failures is not None:
        kinds = f"{Kind.FAILED.value}, {Kind.STEP_FAILED.value}, {Kind.CHILD_FAILED.value}"
        # As the index has it, or it would not be used.
        failed = f"SELECT execution FROM litefleet_event WHERE kind IN ({kinds})"
        found.add(f"x.id {'' if selection.failures else 'NOT '}IN ({failed})")
    return found


def _among(column: str, numbers: tuple[int, ...]) -> str:
    if len(numbers) == 1:
        return f"{column} = {numbers[0]}"
    return f"{column} IN ({', '.join(map(str, numbers))})"


def status_code(known: Known) -> tuple[str, list[Any]]:
    """SQL for the number of how `x` stands, and its values."""
    if not (known.queued or known.diverged or known.parked):
        return "x.status", []
    sql = (
        f"CASE WHEN x.id IN (SELECT value FROM json_each(?)) THEN {QUEUED}"
        f" WHEN x.id IN (SELECT value FROM json_each(?)) THEN {DIVERGED}"
        f" WHEN x.id IN (SELECT value FROM json_each(?)) THEN {PARKED} ELSE x.status END"
    )
    return sql, [json.dumps(known.queued), json.dumps(known.diverged), json.dumps(known.parked)]


def _statuses(found: Where, selection: Selection, known: Known) -> None:
    either = Where()
    wanted = selection.statuses
    if wanted >= OPEN:
        either.add("x.closed IS NULL")
    else:
        among = "x.id IN (SELECT value FROM json_each(?))"
        if Status.RUNNING in wanted:
            others = [*known.queued, *known.diverged, *known.parked]
            either.add(f"x.closed IS NULL AND NOT {among}", json.dumps(others))
        if Status.QUEUED in wanted:
            either.add(among, json.dumps(known.queued))
        if Status.DIVERGED in wanted:
            either.add(among, json.dumps(known.diverged))
        if Status.PARKED in wanted:
            either.add(among, json.dumps(known.parked))
    codes = sorted(_CODES[status] for status in wanted - OPEN)
    if codes:
        listed = ", ".join(map(str, codes))
        # The first is what the index of these few has, or it would not be used.
        either.add(f"{'x.status > 1 AND ' if codes[0] > 1 else ''}x.status IN ({listed})")
    found.add(" OR ".join(f"({term})" for term in either.terms), *either.values)


def _times(found: Where, selection: Selection, known: Known) -> None:
    for column in ("started", "closed"):
        after, before = (getattr(selection, f"{column}_{side}") for side in ("after", "before"))
        if after is not None:
            found.add(f"x.{column} > ?", known.times[after])
        if before is not None:
            found.add(f"x.{column} <= ?", known.times[before])


def moments(selection: Selection) -> set[float]:
    """Those of which `Known` must have the times."""
    sides = (
        selection.started_after,
        selection.started_before,
        selection.closed_after,
        selection.closed_before,
    )
    return {at for at in sides if at is not None}
