"""A host's authority to run nodes: the lease record and the arithmetic of its deadlines.

Clocks are used for rates only; the order of owners is decided by compare-and-swap in the bucket.
What the clock bounds is how long a lost host may go on having effects.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from backup.records import Record

RENEW_EVERY = 5.0
"""Seconds between two renewals."""
TTL = 15.0
"""Seconds after which a lease that is not renewed has lapsed."""
SELF_FENCE_AFTER = 12.0
"""Seconds after the moment before the last successful renewal was sent: nodes are dead by then."""
WATCH = 16.0
"""Seconds for which another one's lease must be seen unchanged before it may be fenced."""
MAX_SKEW = 5.0
"""Seconds between a host's clock and the store's above which it takes no ownership."""


def boottime() -> float:
    """Seconds since boot, suspended time included: a paused machine's deadline passes meanwhile."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class LeaseState(StrEnum):
    """``fenced`` is terminal for that incarnation."""

    LIVE = "live"
    FENCED = "fenced"


class Load(BaseModel):
    """What a host says of itself with each renewal.

    ``restoring``: nodes that are still being brought up. ``cpus`` and ``memory_bytes`` are what it
    may use; ``cpu_used`` (cores of its machine that were busy since the last renewal),
    ``memory_available`` and ``disk_free`` (bytes) say what is left. None: an agent that does not
    tell.
    """

    model_config = ConfigDict(frozen=True)

    address: str = ""
    nodes: int = 0
    restoring: int = 0
    cpus: int = 0
    cpu_used: float | None = None
    memory_bytes: int = 0
    memory_available: int | None = None
    disk_free: int | None = None


class LeaseRecord(Record):
    """``lease.json``. ``proven`` maps each tenant to the ``epoch:txid`` proven in the bucket.

    It is a floor against a list of the bucket that is cut short. ``revoked`` maps tenants to the
    epoch that must stop before the next renewal.
    """

    host: str
    incarnation: str
    state: LeaseState = LeaseState.LIVE
    proven: dict[str, str] = Field(default_factory=dict)
    revoked: dict[str, int] = Field(default_factory=dict)
    load: Load = Load()
    coordinator_eligible: bool = False


@dataclass(slots=True)
class Authority:
    """The holder's side of a lease: until when nodes may run, on the boot-time clock.

    A renewal is neither sent nor credited once the previous deadline has passed; that check comes
    before any other work after a pause, so a zombie cannot renew itself back to life.
    """

    deadline: float

    @classmethod
    def granted(cls, sent_at: float) -> Authority:
        """Authority from the first write of a lease, sent at ``sent_at``."""
        return cls(sent_at + SELF_FENCE_AFTER)

    def alive(self, now: float) -> bool:
        return now < self.deadline

    def renewed(self, sent_at: float, answered_at: float) -> bool:
        """Credit a renewal; False (and no credit) if it came back after the deadline."""
        if not self.alive(sent_at) or not self.alive(answered_at):
            return False
        self.deadline = max(self.deadline, sent_at + SELF_FENCE_AFTER)
        return True


@dataclass(slots=True)
class Watch:
    """An observer's side of a lease: since when it has been seen unchanged.

    ``since`` and ``now`` are seconds of the observer's own monotonic clock. What is compared is
    the ETag, never a time that the other host wrote.
    """

    etag: str
    since: float

    def seen(self, etag: str, now: float) -> None:
        """Note one successful read of the lease."""
        if etag != self.etag:
            self.etag = etag
            self.since = now

    def unchanged_for(self, now: float) -> float:
        return now - self.since

    def lapsed(self, now: float) -> bool:
        return self.unchanged_for(now) >= WATCH


def fenced(now: LeaseRecord) -> LeaseRecord:
    """The same lease, ended for this incarnation."""
    return now.model_copy(update=now.succeeded_by(state=LeaseState.FENCED))
