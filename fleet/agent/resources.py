"""What a host has and how much of it is in use, for its lease: the coordinator places by it.

An agent that is confined, by a container or a unit, has what its control group lets it have.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
UNLIMITED = 1 << 60
"""Bytes from which on a limit of version 1 is none: it is then the largest number of pages."""


@dataclass(frozen=True, slots=True)
class Resources:
    """``cpus`` that may be used and ``cpu_used`` of the machine's that were, in cores, since the
    last look; memory in bytes, as available to a program that starts now; ``disk_free`` in bytes,
    where the nodes' files are."""

    cpus: int
    cpu_used: float
    memory_bytes: int
    memory_available: int
    disk_free: int


class Meter:
    """Looks at the machine. Processor time is counted from one look to the next."""

    def __init__(self, data: Path, groups: Path = CGROUPS, own: Path = Path("/proc/self/cgroup")):
        """
        Args:
            data: a folder on the disk that matters.
            groups: where control groups are mounted.
            own: the file that names this process's groups.
        """
        self._data = data
        self._groups = groups
        self._own = own
        psutil.cpu_percent()  # from here on it counts

    def look(self) -> Resources:
        machine = psutil.virtual_memory()
        total, available = int(machine.total), int(machine.available)
        limit, used = self._memory()
        if limit is not None and limit < total:
            total = limit
            available = min(available, max(0, limit - used))
        cores = os.cpu_count() or 1
        quota = self._quota()
        return Resources(
            cpus=max(1, min(cores, math.floor(quota))) if quota is not None else cores,
            cpu_used=round(psutil.cpu_percent() / 100 * cores, 2),
            memory_bytes=total,
            memory_available=available,
            disk_free=int(psutil.disk_usage(str(self._data)).free),
        )

    def _memory(self) -> tuple[int | None, int]:
        """The group's limit, and what it uses that the kernel cannot take back at once."""
        for folder, limit, usage, cache in (
            (self._folder(""), "memory.max", "memory.current", "inactive_file"),
            (
                self._folder("memory"),
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            ),
        ):
            most = _number(folder / limit)
            if most is not None and most < UNLIMITED:
                held = (_number(folder / usage) or 0) - _entry(folder / "memory.stat", cache)
                return most, max(0, held)
        return None, 0

    def _quota(self) -> float | None:
        """Processor seconds a second that the group may use; None without a limit."""
        try:
            quota, period = (self._folder("") / "cpu.max").read_text().split()
            return int(quota) / int(period)
        except (OSError, ValueError):
            pass
        folder = self._folder("cpu")
        quota_us = _number(folder / "cpu.cfs_quota_us")
        period_us = _number(folder / "cpu.cfs_period_us")
        return quota_us / period_us if quota_us and period_us and quota_us > 0 else None

    def _folder(self, controller: str) -> Path:
        """The folder of this process's group: ``""`` is version 2's one hierarchy."""
        root = self._groups / controller
        try:
            lines = self._own.read_text().splitlines()
        except OSError:
            return root
        for line in lines:
            _, names, path = line.split(":", 2)
            if controller in names.split(","):
                folder = root / path.lstrip("/")
                # In a container the path may be the outer one, while the mount is the group's own.
                return folder if folder.is_dir() else root
        return root


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # "max" is no number
        return None


def _entry(path: Path, name: str) -> int:
    try:
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    except (OSError, ValueError):
        pass
    return 0
