"""Which of the operating system's users each tenant has on this host: its own, and always the same.

A tenant's numbers are never another's, since its files may still lie on the disk.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from node.users import Users


class NoAccount(Exception):
    """All numbers are given out."""


class Accounts:
    """Numbers of users from a range that nothing else on the machine uses, kept in a file."""

    def __init__(self, path: Path, first: int, count: int):
        """
        Args:
            path: the file; what is in it stays as it is.
            first: the first number of the range; ``count`` is how many there are, two a tenant.
        """
        self._path = path
        self._first = first
        self._count = count
        try:
            self._slots: dict[str, int] = json.loads(path.read_text())
        except FileNotFoundError:
            self._slots = {}

    def of(self, tenant: str) -> Users:
        """The tenant's users; new ones are written down before anybody has them. Raises
        `NoAccount`."""
        slot = self._slots.get(tenant)
        if slot is None:
            slot = max(self._slots.values(), default=-1) + 1
            if 2 * slot + 2 > self._count:
                raise NoAccount(
                    f"all {self._count // 2} accounts of this host are given out; raise `count` of "
                    "`accounts` in the agent's settings"
                )
            self._write({**self._slots, tenant: slot})
        number = self._first + 2 * slot
        return Users(engine=number, sidecar=number + 1, group=number)

    def _write(self, slots: dict[str, int]) -> None:
        partial = self._path.with_name(f".{self._path.name}")
        with open(partial, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            json.dump(slots, file)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(self._path)
        self._slots = slots
