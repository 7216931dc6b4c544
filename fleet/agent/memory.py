"""What an agent leaves behind for the one that comes after it on the same folder.

With it, an agent that is restarted within its deadline goes on under the lease that it had, and the
nodes do not notice.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from fleet.runtimes.process import boot


class AnotherAgent(Exception):
    """An agent runs on this folder already."""


class Remembered(BaseModel):
    """The lease as it was last renewed: the deadline is in seconds of that boot's clock."""

    model_config = ConfigDict(frozen=True)

    host: str
    incarnation: str
    deadline: float
    boot: str


class Memory:
    """The file, and the lock that makes an agent the only one of its folder."""

    def __init__(self, data: Path, host: str):
        self._path = data / "agent.json"
        self._host = host
        self._lock: int | None = None

    def hold(self) -> None:
        """Take the folder, until this process ends. Raises `AnotherAgent`."""
        lock = os.open(
            self._path.with_name("agent.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise AnotherAgent(
                f"another agent runs on {self._path.parent}; end it first, or give this one "
                "a folder of its own"
            ) from error
        self._lock = lock

    def note(self, incarnation: str, deadline: float) -> None:
        """Remember a lease that was taken or renewed; called only after that has been credited."""
        remembered = Remembered(
            host=self._host, incarnation=incarnation, deadline=deadline, boot=boot()
        )
        partial = self._path.with_name(".agent.json")
        partial.touch(mode=0o600)
        partial.write_text(remembered.model_dump_json())
        partial.rename(self._path)

    def recall(self) -> Remembered | None:
        """The lease of the agent before, if that was in this boot of the machine."""
        try:
            found = Remembered.model_validate_json(self._path.read_text())
        except (OSError, ValidationError):
            return None
        return found if (found.host, found.boot) == (self._host, boot()) else None

    def forget(self) -> None:
        """The lease has ended."""
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
