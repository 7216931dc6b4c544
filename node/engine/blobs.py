"""Payloads too large for an event: the event has the digest of one, this table what it is of."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final

import apsw

from node.engine.events import Payload

TABLE: Final = """
-- Payloads that are too large for an event, which has the digest instead. Each is here once.
CREATE TABLE litefleet_blob(digest BLOB PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
"""
#: A payload as an event has it: itself, or the digest of a blob.
Kept = Payload | bytes


def digest_of(body: str) -> bytes:
    """What a payload is found by."""
    return blake2b(body.encode(), digest_size=32).digest()


def body_of(payload: str) -> str:
    """SQL for what an event's payload says, given its column."""
    return (
        f"CASE typeof({payload}) WHEN 'blob' THEN"
        f" (SELECT body FROM litefleet_blob WHERE digest = {payload}) ELSE {payload} END"
    )


class Shelf:
    """Puts payloads of more than `limit` bytes aside, in the transaction of their events."""

    def __init__(self, db: apsw.Connection, limit: int) -> None:
        self._db = db
        self._limit = limit
        #: A text of so many characters has at most `limit` bytes.
        self.sure = limit // 4

    def keep(self, payload: str) -> Kept:
        """What the event of this payload has."""
        if len(payload) <= self._limit and len(payload.encode()) <= self._limit:
            return payload
        digest = digest_of(payload)
        self._db.execute("INSERT OR IGNORE INTO litefleet_blob VALUES (?, ?)", (digest, payload))
        return digest


def body(db: apsw.Connection, payload: Kept) -> Payload:
    """What a kept payload says. Raises KeyError when it is not there."""
    if not isinstance(payload, bytes):
        return payload
    found: list[Any] = db.execute(
        "SELECT body FROM litefleet_blob WHERE digest = ?", (payload,)
    ).fetchall()
    if not found:
        raise KeyError(f"its payload {payload.hex()} is missing")
    return str(found[0][0])
