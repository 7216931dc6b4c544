"""What is remembered of removed executions: how far their steps were counted, so that none of an
execution that has the same id later has the idempotency key of one of theirs.

An id is there as a number that does not say it, and only for some time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, Final

import apsw

from node.engine.beginning import Beginning, compact
from node.engine.blobs import body
from node.engine.errors import LogDamaged
from node.engine.events import BEGINNINGS, INTENTS, Event, Kind
from node.engine.schema import fetch_all

#: Days for which it is remembered.
REMEMBERED: Final = 30
_DAY: Final = 24 * 3600 * 1000
_COUNTED: Final = {int(kind) for kind in INTENTS}
_BEGIN: Final = {int(kind) for kind in BEGINNINGS}


def day_of(at: int) -> int:
    """The day of a moment in unix ms, from 1970 on."""
    return at // _DAY


def numbered(secret: bytes, key: str) -> int:
    """What an execution's id is here. `secret` is the log's."""
    digest = blake2b(key.encode(), digest_size=8, key=secret, person=b"gone").digest()
    return int.from_bytes(digest, signed=True)


def remember(db: apsw.Connection, secret: bytes, key: str, rows: Iterable[Any], at: int) -> None:
    """How far the steps of this id were counted, by events that are just being removed: rows of
    sequence, back, kind, name, occurrence and payload, the newest first. Again for further ones.
    """
    number = numbered(secret, key)
    counts: dict[int, int] = {}
    run = 0
    known = fetch_all(db, "SELECT run, counts FROM litefleet_gone WHERE id = ?", (number,))
    if known:
        run, counts = known[0][0], read_counts(known[0][1])
    for _, _, kind, name, occurrence, payload in rows:
        if kind in _COUNTED:
            counts[name] = max(counts.get(name, 0), occurrence)
        elif kind in _BEGIN:
            began = Event(0, key, Kind(kind), "", 1, body(db, payload), 0, 0)
            beginning = Beginning.of(began)
            run = max(run, beginning.run)
            for word, count in beginning.counts.items():
                name = _name(db, word)
                counts[name] = max(counts.get(name, 0), count)
            # An older history has counted less.
            break
    db.execute(
        "INSERT OR REPLACE INTO litefleet_gone VALUES (?, ?, ?, ?)",
        (number, run, _write_counts(counts), day_of(at) + REMEMBERED),
    )


def forget(db: apsw.Connection, low: int, high: int, at: int) -> None:
    """Those in this range whose time has come."""
    db.execute(
        "DELETE FROM litefleet_gone WHERE id BETWEEN ? AND ? AND until < ?",
        (low, high, day_of(at)),
    )


def gone_before(db: apsw.Connection, secret: bytes, key: str) -> tuple[int, dict[str, int]] | None:
    """Of an id whose execution was removed: the number of its histories, and how far its steps
    were counted."""
    found = fetch_all(
        db, "SELECT run, counts FROM litefleet_gone WHERE id = ?", (numbered(secret, key),)
    )
    if not found:
        return None
    run, counts = found[0]
    names = dict(fetch_all(db, "SELECT id, name FROM litefleet_name"))
    return run, {names[name]: count for name, count in read_counts(counts).items()}


def read_counts(text: str) -> dict[int, int]:
    """The reverse of how litefleet_gone has them: names' numbers and counts in turn."""
    numbers = json.loads(text)
    return dict(zip(numbers[::2], numbers[1::2], strict=True))


def _write_counts(counts: dict[int, int]) -> str:
    return compact([number for pair in counts.items() for number in pair])


def _name(db: apsw.Connection, word: str) -> int:
    found = fetch_all(db, "SELECT id FROM litefleet_name WHERE name = ?", (word,))
    if not found:
        raise LogDamaged(f"a history counts {word!r}, which no event has")
    return int(found[0][0])
