"""Processes: ended with their groups, and what they print sent to a file."""

from __future__ import annotations

import contextlib
import os
import signal

import psutil

from backup.prctl import CHILD_SUBREAPER, prctl


def kill_group(leader: int) -> None:
    """SIGKILL a process group; no error if it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of all that descends from this process and loses its own."""
    prctl(CHILD_SUBREAPER, 1)


def kill_below(pid: int) -> None:
    """SIGKILL to everything that descends from a process, until nothing new is found."""
    seen: set[tuple[int, float]] = set()
    while True:
        found = []
        with contextlib.suppress(psutil.Error):
            found = psutil.Process(pid).children(recursive=True)
        fresh = [one for one in found if (one.pid, one.create_time()) not in seen]
        if not fresh:
            return
        for one in fresh:
            seen.add((one.pid, one.create_time()))
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(one.pid, signal.SIGKILL)


def log_to(path: str) -> None:
    """Send this process's standard output and error to a file, and read nothing."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.close(null)
