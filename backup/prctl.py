"""Linux's prctl, which Python does not bind: settings of the calling process.

`fleet.machine` has a binding of its own, since its init imports the standard library only."""

from __future__ import annotations

import ctypes
from typing import Final

# Bound once, so that a call between fork and exec is a system call and nothing else.
_LIBC = ctypes.CDLL(None, use_errno=True)

PDEATHSIG: Final = 1
DUMPABLE: Final = 4
CHILD_SUBREAPER: Final = 36
NO_NEW_PRIVS: Final = 38


def prctl(option: int, value: int) -> int:
    """Set one; 0, or -1 with the reason in `ctypes.get_errno()`. See prctl(2)."""
    return int(_LIBC.prctl(option, value, 0, 0, 0))
