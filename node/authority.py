"""Until when a node may have effects: a deadline that supervisor and engine share.

Eight bytes in a file that the supervisor writes and the engine only reads, both through a memory
map, so that looking at it costs no system call beyond reading the clock. A process that was frozen
past the deadline sees that before it does anything else.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

from backup.lease import boottime

_SECONDS = struct.Struct("<d")


class AuthorityFile:
    """The supervisor's side: it sets the deadline, in seconds of the boot-time clock."""

    def __init__(self, path: Path):
        self.path = path
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.ftruncate(handle, _SECONDS.size)
            self._map = mmap.mmap(handle, _SECONDS.size)
        finally:
            os.close(handle)

    @property
    def deadline(self) -> float:
        return float(_SECONDS.unpack_from(self._map)[0])

    def extend(self, deadline: float) -> None:
        """Move the deadline, never backwards and never once it has passed.

        A deadline that has passed stays passed: what it ended may not come back to life.
        """
        now = self.deadline
        if now == 0.0 or (boottime() < now < deadline):
            _SECONDS.pack_into(self._map, 0, deadline)

    def revoke(self) -> None:
        """End the authority at once."""
        _SECONDS.pack_into(self._map, 0, -1.0)

    def alive(self) -> bool:
        """Whether the deadline has not passed."""
        return boottime() < self.deadline


class AuthorityView:
    """The engine's side: it can look, and nothing else."""

    def __init__(self, path: Path):
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._map = mmap.mmap(handle, _SECONDS.size, prot=mmap.PROT_READ)
        finally:
            os.close(handle)

    def __call__(self) -> bool:
        """Whether effects are allowed now."""
        return boottime() < float(_SECONDS.unpack_from(self._map)[0])
