"""How many bytes of a log the bucket does not have yet, by files on this machine.

Litestream says in each of its files from where to where in the WAL it was taken, and the WAL index
says where the WAL ends. So what is committed and not taken yet, and what is taken and not uploaded
yet, can be told to the byte, without asking Litestream and without any of its logs.
"""

from __future__ import annotations

import sys
from pathlib import Path

from backup.ltx import HEADER_SIZE, LtxDamaged, LtxHeader, parse
from backup.walindex import WalIndex

WAL_HEADER = 32
"""Bytes at the front of a WAL, before its first frame."""


class Backlog:
    """The backlog of one database. Keep it for as long as that is open: see `WalIndex`."""

    def __init__(self, database: Path) -> None:
        self._files = database.with_name(f".{database.name}-litestream") / "ltx" / "0"
        self._index = WalIndex(database)

    def bytes(self, replicated: int) -> int | None:
        """Bytes of the WAL that are not in the bucket; None where that cannot be told now.

        Args:
            replicated: the position that is known to be in the bucket.
        """
        index = self._index.look()
        if index is None:
            return None
        try:
            names = sorted(path.name for path in self._files.iterdir() if path.suffix == ".ltx")
            headers = [self._header(name) for name in names if _end(name) > replicated]
            newest = headers[-1] if headers else self._header(names[-1]) if names else None
        except (OSError, LtxDamaged):
            return None  # it is just being written, or removed
        if newest is None:
            return None
        end = WAL_HEADER + index.frame_bytes if index.newest else 0
        # With another salt the WAL has begun anew, and nothing of it is taken yet.
        taken = newest.wal_end if newest.wal_salt == _in_file(index.salt) else 0
        return sum(header.wal_size for header in headers) + max(0, end - taken)

    def _header(self, name: str) -> LtxHeader:
        with (self._files / name).open("rb") as file:
            return parse(file.read(HEADER_SIZE))


def _end(name: str) -> int:
    """The last position in a file of level 0, by its name."""
    try:
        return int(name.removesuffix(".ltx").partition("-")[2], 16)
    except ValueError:
        return 0


def _in_file(salt: tuple[int, int]) -> tuple[int, int]:
    """The salt as the WAL itself has it: the index keeps the bytes as they are, and a WAL is
    big-endian."""
    first, second = (int.from_bytes(one.to_bytes(4, sys.byteorder), "big") for one in salt)
    return first, second
