"""What a database and its sidecar take on the disk, and what goes through them, by their files.

Litestream's local copies of what it uploads to level 0 lie in its metadata folder for some minutes
after the upload, so their sizes tell of the traffic without asking the store, and without a log.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from backup.walindex import Look

FULL: Final = 0.5
"""The part of the database's size from which an upload counts as one of the whole database."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Sizes in bytes, and counters since the first look; see `backup.guards.Measured`."""

    database: int
    wal: int
    metadata: int
    committed_bytes: int
    uploaded_bytes: int
    full_uploads: int
    unreplicated_bytes: int


class Meter:
    """Looks at one database's files again and again. What happened before the first look does not
    count."""

    def __init__(self, database: Path, *, full_upload_least: int) -> None:
        self._database = database
        self._wal = database.with_name(database.name + "-wal")
        self._metadata = database.with_name(f".{database.name}-litestream")
        self._least = full_upload_least
        self._index: Look | None = None
        self._seen: dict[str, int] | None = None
        self._committed = self._uploaded = self._full = 0

    def look(self, index: Look | None, replicated: int) -> Usage:
        """The usage now.

        Args:
            index: the database's WAL index as it is now.
            replicated: the position that is known to be in the bucket; 0 while that is not known.
        """
        database = _size(self._database)
        if index is not None:
            before = self._index or index
            done = before.frame_bytes if before.salt == index.salt else 0
            self._committed += max(0, index.frame_bytes - done)
            self._index = index
        metadata, files = self._look_at_metadata()
        if self._seen is not None:
            for name, size in files.items():
                if name not in self._seen:
                    self._uploaded += size
                    self._full += size >= max(self._least, FULL * database)
        self._seen = files
        behind = sum(
            size for name, size in files.items() if replicated and _position(name) > replicated
        )
        return Usage(
            database,
            _size(self._wal),
            metadata,
            self._committed,
            self._uploaded,
            self._full,
            behind,
        )

    def _look_at_metadata(self) -> tuple[int, dict[str, int]]:
        """The size of all metadata, and the level 0 files among them by name."""
        whole, files = 0, dict[str, int]()
        for folder, _, names in os.walk(self._metadata):
            for name in names:
                size = _size(Path(folder, name))
                whole += size
                if name.endswith(".ltx") and os.path.basename(folder) == "0":
                    files[name] = size
        return whole, files


def _position(name: str) -> int:
    _, _, high = name.removesuffix(".ltx").partition("-")
    try:
        return int(high, 16)
    except ValueError:
        return 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        # Litestream removes its files when it likes.
        return 0
