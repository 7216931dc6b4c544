"""SQLite's WAL index (`-shm`), looked at from outside: who reads, and since which frame.

A reader that does not end keeps everybody from checkpointing past it: the WAL grows, and with
Litestream the writer once stood still for 14 s behind a read transaction of a minute. SQLite itself
tells nobody who it is; its locks do. The layout is that of SQLite's file format documentation
("The WAL-Index File Format"); it is fixed, since processes of different versions share the file.
"""

from __future__ import annotations

import fcntl
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

READERS: Final = 5
_HEADER: Final = struct.Struct("=IIIBBHII8xII")
_MARKS_AT: Final = 100
_MARKS: Final = struct.Struct(f"={READERS}I")
_FRAME_HEADER: Final = 24
_FIRST_READ_LOCK: Final = 123
_FLOCK: Final = struct.Struct("hhxxxxqqixxxx")
UNUSED: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Slot:
    """One of the index's places for readers, held by somebody.

    ``mark`` is the last frame that they see (0: they read the database file alone), ``pid`` one of
    the processes that hold it.
    """

    number: int
    mark: int
    pid: int


@dataclass(frozen=True, slots=True)
class Look:
    """The index at one moment.

    ``newest`` is the WAL's last frame, each one page of ``page_size`` bytes; the frames are counted
    anew whenever ``salt`` changes. ``slots`` are the readers.
    """

    newest: int
    slots: tuple[Slot, ...] = ()
    page_size: int = 0
    salt: tuple[int, int] = (0, 0)

    @property
    def frame_bytes(self) -> int:
        """What all frames up to the newest take in the WAL."""
        return self.newest * (self.page_size + _FRAME_HEADER)


class WalIndex:
    """The index of one database. Locks of this very process are not seen.

    The file is kept open until `close`: to close any descriptor of it drops every lock that this
    process has on it, those of a SQLite connection included.
    """

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + "-shm")
        self._handle: int | None = None
        self._inode = 0

    def look(self) -> Look | None:
        """None where there is no index, or none that is initialised."""
        handle = self._opened()
        if handle is None:
            return None
        head = os.pread(handle, _HEADER.size, 0)
        marks = os.pread(handle, _MARKS.size, _MARKS_AT)
        if len(head) < _HEADER.size or len(marks) < _MARKS.size:
            return None
        _, _, _, initialised, _, page, newest, _, *salt = _HEADER.unpack(head)
        if not initialised:
            return None
        slots = []
        for number, mark in enumerate(_MARKS.unpack(marks)):
            pid = _holder(handle, _FIRST_READ_LOCK + number)
            if pid is not None and mark != UNUSED:
                slots.append(Slot(number, mark, pid))
        # 65536 does not fit into its two bytes and is written as 1.
        return Look(newest, tuple(slots), 65536 if page == 1 else page, (salt[0], salt[1]))

    def close(self) -> None:
        """Let the file go; only when this process has no connection to the database."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _opened(self) -> int | None:
        try:
            inode = self._path.stat().st_ino
        except OSError:
            return self._handle
        if self._handle is None or inode != self._inode:
            # Of another file there are no locks to lose.
            self.close()
            try:
                self._handle = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                return None
            self._inode = inode
        return self._handle


def _holder(handle: int, byte: int) -> int | None:
    """A process with a lock on this byte, None when there is none."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(handle, fcntl.F_GETLK, asked))
    return None if kind == fcntl.F_UNLCK else pid


class LongReaders:
    """Which readers hold the WAL back, and for how long: fed with looks, seconds of any one clock.

    A slot counts from the first look that finds it held at a frame; another mark begins anew.
    """

    def __init__(self) -> None:
        self._since: dict[tuple[int, int, int], float] = {}

    def seen(self, look: Look | None, now: float, *, apart_from: int | None) -> float:
        """Seconds for which the oldest reader that is behind the newest frame has been there.

        Args:
            apart_from: a process that may (Litestream holds a read transaction on purpose).
        """
        held = {
            (slot.number, slot.mark, slot.pid)
            for slot in (look.slots if look is not None else ())
            if slot.pid != apart_from and look is not None and slot.mark < look.newest
        }
        self._since = {key: self._since.get(key, now) for key in held}
        return max((now - since for since in self._since.values()), default=0.0)

    @property
    def pids(self) -> tuple[int, ...]:
        """Who they are, the oldest first."""
        return tuple(pid for (_, _, pid), _ in sorted(self._since.items(), key=lambda one: one[1]))
