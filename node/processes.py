"""Processes: ended with their groups, and what they print sent to a file."""

from __future__ import annotations

import contextlib
import os
import signal


def kill_group(leader: int) -> None:
    """SIGKILL a process group; no error if it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def log_to(path: str) -> None:
    """Send this process's standard output and error to a file, and read nothing."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.close(null)
