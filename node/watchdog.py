"""The node's own watchdog: a thread that kills at the deadline, whatever else hangs.

It needs neither the event loop nor the agent. When the deadline passes it sends SIGKILL to the
engine first and to the sidecar after it, in that order: an engine without sidecar would commit
what nobody uploads, but a sidecar without engine only finishes what was committed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from node.authority import AuthorityFile

GLANCE = 1.0
"""Seconds at most between two looks at the deadline: it may have been revoked meanwhile."""


class Watchdog:
    """Watches an `AuthorityFile` and calls ``kill`` once, from its own thread, when it ends."""

    def __init__(
        self,
        authority: AuthorityFile,
        kill: Callable[[], None],
        clock: Callable[[], float],
    ):
        self._authority = authority
        self._kill = kill
        self._clock = clock
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self.fired = False

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stand down: the node has ended on its own."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.is_set():
            left = self._authority.deadline - self._clock()
            if left <= 0:
                self.fired = True
                self._kill()
                # What is killed may be replaced by a restart that was under way: keep at it.
                time.sleep(0.05)
            else:
                self._stopped.wait(min(left, GLANCE))
