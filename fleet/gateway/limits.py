"""What one tenant's callers have used up: a token bucket, and the room for what is under way.

Pure: moments come in as seconds of any clock that never goes back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from backup.limits import RequestLimits

Why = Literal["rate", "concurrency", "body", "held", "bytes"]
"""What there was too much of: requests in a time, at once, bytes of a body, requests or bytes that
are held."""


@dataclass(frozen=True, slots=True)
class Refused:
    """No, and why; after ``retry_after`` seconds it may be otherwise (None: never)."""

    why: Why
    retry_after: float | None


@dataclass(slots=True)
class Bucket:
    """A token bucket. It is full at first, and whenever its size has changed."""

    tokens: float = 0.0
    at: float = -math.inf
    size: float = 0.0

    def take(self, now: float, rate: float, burst: float) -> float:
        """Take one token: 0 if there was one, else the seconds until there will be one.

        Args:
            rate: tokens that come in a second, above 0.
            burst: how many there can be at most, at least 1.
        """
        if self.size != burst:
            self.tokens, self.size = burst, burst
        elif now > self.at:
            self.tokens = min(burst, self.tokens + (now - self.at) * rate)
        self.at = max(self.at, now)
        if self.tokens >= 1:
            self.tokens -= 1
            return 0.0
        return (1 - self.tokens) / rate


@dataclass(slots=True)
class Room:
    """What one tenant has under way. No tenant's use of its own changes another's."""

    under_way: int = 0
    held: int = 0
    held_bytes: int = 0

    def enter(
        self, bucket: Bucket, now: float, limits: RequestLimits, length: int | None
    ) -> Refused | None:
        """Let a request in, or say why not; who is let in must `leave`.

        Args:
            length: bytes of its body as far as they are known.
        """
        if limits.body_bytes and length is not None and length > limits.body_bytes:
            return Refused("body", None)
        if limits.concurrency and self.under_way >= limits.concurrency:
            return Refused("concurrency", 1.0)
        if limits.rate:
            burst = limits.burst or max(1, math.ceil(limits.rate))
            if wait := bucket.take(now, limits.rate, burst):
                return Refused("rate", wait)
        self.under_way += 1
        return None

    def leave(self) -> None:
        self.under_way -= 1

    def hold(self, size: int, most: int, most_bytes: int) -> Refused | None:
        """Keep a request that was let in for a while, or say why not; then `let_go`."""
        if self.held >= most:
            return Refused("held", 1.0)
        if self.held_bytes + size > most_bytes:
            return Refused("bytes", 1.0)
        self.held += 1
        self.held_bytes += size
        return None

    def let_go(self, size: int) -> None:
        self.held -= 1
        self.held_bytes -= size
