"""A process that must not outlive the one that started it."""

from __future__ import annotations

import os
import signal

from backup.prctl import PDEATHSIG, prctl


def die_with_parent(parent: int) -> None:
    """Ask the kernel to SIGKILL this process when its parent ends; end now if it already has.

    Safe enough between fork and exec: two system calls through bound functions.

    Args:
        parent: the parent's pid, taken before the fork.
    """
    prctl(PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
