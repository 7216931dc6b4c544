"""Labels: what executions are found by, such as a customer's name.

They are given with a start or set by the code, and are in the log; the table litefleet_label has
what the events say, so that a label leads to its executions at once. An execution without labels
has no row there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import apsw

from node.engine.errors import PayloadError
from node.engine.events import Kind, Payload

#: Characters of a value.
LONGEST: Final = 200
#: Bytes of an execution's labels as JSON: what says where it comes from stays in its event.
MOST_BYTES: Final = 2000
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,62}")
#: What an ORIGIN or CHILD event's payload has them under.
FIELD: Final = "labels"

TABLE: Final = """
-- What executions are labelled with now; made from their events.
CREATE TABLE litefleet_label(
  execution INTEGER NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL,
  PRIMARY KEY(execution, name)) WITHOUT ROWID;
CREATE INDEX litefleet_labelled ON litefleet_label(name, value);
"""


def labels_of(execution: str) -> str:
    """SQL for an execution's labels, as a JSON object."""
    return (
        "(SELECT json_group_object(name, value) FROM litefleet_label"
        f" WHERE execution = {execution})"
    )


def checked_labels(labels: Mapping[str, Any]) -> dict[str, str]:
    """Themselves, in order of their names. Raises PayloadError."""
    for name, value in labels.items():
        check_label(name, value)
    if len(json.dumps(dict(labels), ensure_ascii=False).encode()) > MOST_BYTES:
        raise PayloadError(f"an execution's labels have at most {MOST_BYTES} bytes together")
    return dict(sorted(labels.items()))


def check_label(name: Any, value: Any) -> None:
    """Raises PayloadError."""
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise PayloadError(
            f"{name!r} is no name for a label: letters, digits, '_', '.' and '-', at most 63"
        )
    if not (isinstance(value, str) and 0 < len(value) <= LONGEST and value.isprintable()):
        raise PayloadError(
            f"the label {name} has a value of 1 to {LONGEST} printable characters",
            hint="Labels are for finding executions; keep data in their input or result.",
        )


def labels_in(payload: Mapping[str, Any]) -> dict[str, str]:
    """What an ORIGIN or CHILD event's payload says. Raises ValueError."""
    found = payload.get(FIELD, {})
    try:
        if checked_labels(found) != found:
            raise ValueError("its labels are out of order")
    except (PayloadError, AttributeError, TypeError) as error:
        raise ValueError(f"its labels are none: {error}") from error
    return dict(found)


def change_in(payload: Payload) -> dict[str, str | None]:
    """What a LABELLED event changes: new values by name, None for one that is taken away. Raises
    ValueError."""
    body = json.loads(str(payload))
    if not isinstance(body, dict) or not body:
        raise ValueError("it does not say what is labelled")
    try:
        for name, value in body.items():
            check_label(name, "-" if value is None else value)
    except PayloadError as error:
        raise ValueError(str(error)) from error
    return body


def changed(labels: Mapping[str, str], change: Mapping[str, str | None]) -> dict[str, str]:
    """Labels after a change, in order of their names."""
    both = sorted({**labels, **change}.items())
    return {name: value for name, value in both if value is not None}


class Relabelling:
    """What the events of one commit mean for the table.

    Whatever begins a history begins without labels, and ORIGIN has those that it begins with. What
    a retry makes void stays until the code that runs again sets it again.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[str, tuple[Any, ...]]] = []

    def add(self, execution: int, kind: int, payload: Payload) -> None:
        """The next event, which is of one of KINDS."""
        if kind in _BEGINNINGS:
            self._steps.append((_CLEAR, (execution,)))
        elif kind == Kind.LABELLED:
            for name, value in json.loads(str(payload)).items():
                step = (_TAKE, (execution, name)) if value is None else None
                self._steps.append(step or (_SET, (execution, name, value)))
        elif f'"{FIELD}":' in str(payload):
            # Most have none, and their payload is not worth reading.
            for name, value in json.loads(str(payload)).get(FIELD, {}).items():
                self._steps.append((_SET, (execution, name, value)))

    def write(self, db: apsw.Connection) -> None:
        """Into the table, in the transaction that is under way."""
        for sql, values in self._steps:
            db.execute(sql, values)


_BEGINNINGS: Final = frozenset({int(Kind.RESTARTED), int(Kind.CONTINUED)})
#: The events that change labels.
KINDS: Final = _BEGINNINGS | {int(Kind.ORIGIN), int(Kind.LABELLED)}
_CLEAR: Final = "DELETE FROM litefleet_label WHERE execution = ?"
_TAKE: Final = "DELETE FROM litefleet_label WHERE execution = ? AND name = ?"
_SET: Final = (
    "INSERT INTO litefleet_label VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"
)
