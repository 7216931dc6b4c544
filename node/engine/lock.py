"""The lock on a log file: one engine at a time."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Final

from node.engine.errors import LogInUse, LogMissing, LogRefused

#: Somebody may only be looking whether it is locked: seconds between two tries, and how many.
_AGAIN: Final = 0.02
_TRIES: Final = 5


def lock(path: Path) -> int:
    """Lock the log at `path`; the descriptor that holds the lock. Raises LogInUse, LogMissing,
    LogRefused."""
    name = _name(path)
    try:
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        raise LogMissing(f"there is no folder {path.parent}") from None
    except OSError as error:
        raise LogRefused(f"{name} cannot be opened: {error}") from error
    for _ in range(_TRIES):
        if _locked(descriptor, fcntl.LOCK_EX):
            return descriptor
        time.sleep(_AGAIN)
    os.close(descriptor)
    raise LogInUse(f"another engine has {path} open")


def in_use(path: Path) -> bool:
    """Whether an engine, or whoever else has locked it, has this log open."""
    try:
        descriptor = os.open(_name(path), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _locked(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _locked(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _name(path: Path) -> Path:
    return path.with_name(path.name + ".lock")
