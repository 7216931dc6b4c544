"""Refuses, inside a workflow's turn, what a replay could not repeat.

An audit hook cannot be removed and sees every audited act of the process, so it does next to
nothing unless a turn is running on the thread that acts.
"""

from __future__ import annotations

import _thread
import sys
import threading
from types import FrameType
from typing import Any, Final

from node.engine.errors import DeterminismError

_REFUSED: Final = {
    "open": "opening a file",
    "os.listdir": "listing a folder",
    "os.scandir": "listing a folder",
    "os.mkdir": "making a folder",
    "os.remove": "removing a file",
    "os.rename": "renaming a file",
    "os.rmdir": "removing a folder",
    "os.truncate": "cutting a file",
    "os.putenv": "changing the environment",
    "os.unsetenv": "changing the environment",
    "os.system": "running a command",
    "os.exec": "running a program",
    "os.fork": "starting a process",
    "os.forkpty": "starting a process",
    "os.posix_spawn": "starting a process",
    "os.kill": "signalling a process",
    "subprocess.Popen": "starting a process",
    "socket.__new__": "opening a socket",
    "socket.connect": "connecting a socket",
    "socket.bind": "binding a socket",
    "socket.sendto": "sending on a socket",
    "socket.sendmsg": "sending on a socket",
    "socket.getaddrinfo": "looking up a host",
    "socket.gethostbyname": "looking up a host",
    "sqlite3.connect": "opening a database",
    # Told by Python 3.13 and later only. It blocks every execution, but repeats on a replay.
    "time.sleep": "blocking on time.sleep",
    "_thread.start_new_thread": "starting a thread",
    "_thread.start_joinable_thread": "starting a thread",
}
#: Reading source, byte code and time zones is part of importing a module, of showing a traceback
#: or of naming a zone, and gives the same on a replay with the same code. Modules run their top
#: level in here too.
_ALLOWED_READERS: Final = frozenset(
    {
        "importlib._bootstrap",
        "importlib._bootstrap_external",
        "linecache",
        "traceback",
        "warnings",
        "zoneinfo._common",
        "zoneinfo._tzpath",
    }
)


class _Turn(threading.local):
    running = False
    refused: DeterminismError | None = None


_turn = _Turn()
_installed = threading.Lock()
_is_installed = False


def install() -> None:
    """Add the audit hook to this process, once."""
    global _is_installed
    with _installed:
        if not _is_installed:
            sys.addaudithook(_hook)
            if sys.version_info < (3, 12):
                _audit_threads()
            _is_installed = True


def enter() -> None:
    """A turn begins on this thread."""
    _turn.running = True


def leave() -> DeterminismError | None:
    """The turn on this thread is over; what was refused in it, even if the code caught that."""
    refused, _turn.refused = _turn.refused, None
    _turn.running = False
    return refused


def _audit_threads() -> None:
    """Give Python 3.11 the audit event that later versions raise when a thread starts."""
    start = _thread.start_new_thread

    def start_new_thread(*args: Any) -> int:
        sys.audit("_thread.start_new_thread", *args)
        return start(*args)

    for module, name in (
        (_thread, "start_new_thread"),
        (_thread, "start_new"),
        (threading, "_start_new_thread"),
    ):
        setattr(module, name, start_new_thread)


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if event in _REFUSED and _turn.running and not _is_reading_code():
        # Off while the error is made: making it must not be refused in turn.
        _turn.running = False
        try:
            detail = f" ({args[0]!r})" if event == "open" and args else ""
            error = DeterminismError(f"{_REFUSED[event]}{detail} inside a workflow")
        finally:
            _turn.running = True
        _turn.refused = _turn.refused or error
        raise error


def _is_reading_code() -> bool:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") in _ALLOWED_READERS:
            return True
        frame = frame.f_back
    return False
