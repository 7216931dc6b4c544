"""Does replication move? A pure judge of a sidecar that runs and uploads nothing.

Litestream gives a request to the store 24 hours; one that hangs stops all uploads, and nothing is
logged (seen with 0.5.17). Stopping and starting the database's replication cures that in
milliseconds; a new process cures more, and costs a second. An outage of the store looks the same
from the sidecar, so the judge is also told whether the store answers others.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

STUCK_AFTER: Final = 20.0
"""Seconds without a proof, the store in reach, before anything is done."""
FURTHER: Final = 30.0
"""Seconds that a cure is given before the next one."""
HOPELESS: Final = 3
"""Cures after which the next ones wait for longer: they do no harm, and help nobody."""
SELDOM: Final = 300.0
"""Seconds between those."""


class Cure(StrEnum):
    """What to do about it now."""

    NONE = "none"
    RESTART_REPLICATION = "restart_replication"
    """Stop and start the database inside the running sidecar."""
    RESTART_SIDECAR = "restart_sidecar"
    """Kill the sidecar; its supervisor starts another."""


class Progress:
    """Fed with every attempt at a proof. Seconds are those of any one clock."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._cures = 0

    @property
    def stuck(self) -> bool:
        """Whether cures were tried and nothing has been proven since."""
        return self._cures > 0

    @property
    def hopeless(self) -> bool:
        """Whether a new process did not help either. Something else is wrong: an operator must
        look, and a move of the tenant begins a fresh replica."""
        return self._cures >= HOPELESS

    def proven(self) -> None:
        """A round has proven something: all is well."""
        self._since, self._cures = None, 0

    def failed(self, now: float, *, store_answers: bool) -> Cure:
        """A round has proven nothing. What to do now?"""
        if not store_answers:
            # Time counts from the store's return on: what hangs since the outage hangs for ever.
            self._since = None
            return Cure.NONE
        if self._since is None:
            self._since = now
        patience = SELDOM if self.hopeless else FURTHER if self.stuck else STUCK_AFTER
        if now - self._since < patience:
            return Cure.NONE
        self._since = now
        self._cures += 1
        return Cure.RESTART_REPLICATION if self._cures == 1 else Cure.RESTART_SIDECAR
