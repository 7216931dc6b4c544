"""How far readers of the log outside the engine have come, kept beside the log.

A mark is no event and no part of the chain. It is in the log's file so that it is replicated and
restored with the events: a reader goes on where it was, on whichever host. The table is made when
the first mark is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from node.engine.schema import connect

_TABLE = (
    "CREATE TABLE IF NOT EXISTS litefleet_mark"
    " (reader TEXT PRIMARY KEY, sequence INTEGER NOT NULL) WITHOUT ROWID"
)


class Mark:
    """The mark of one reader: everything up to it is done with. May be used on one thread."""

    def __init__(self, path: Path, reader: str) -> None:
        """Raises LogRefused, LogDamaged."""
        self._db = connect(path)
        self._reader = reader

    def read(self) -> int | None:
        """Where it is; None when the reader has never been here."""
        known: list[Any] = self._db.execute(
            "SELECT 1 FROM sqlite_schema WHERE name = 'litefleet_mark'"
        ).fetchall()
        if not known:
            return None
        found: list[Any] = self._db.execute(
            "SELECT sequence FROM litefleet_mark WHERE reader = ?", (self._reader,)
        ).fetchall()
        return int(found[0][0]) if found else None

    def write(self, sequence: int) -> None:
        """Move it. Raises apsw.Error."""
        self._db.execute(_TABLE)
        self._db.execute(
            "INSERT OR REPLACE INTO litefleet_mark VALUES (?, ?)", (self._reader, sequence)
        )

    def close(self) -> None:
        self._db.close()
