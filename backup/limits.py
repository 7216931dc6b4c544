"""What the callers of one tenant may ask of it: a part of its wanted state."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class RequestLimits(BaseModel):
    """Limits of the requests to one tenant. None: the fleet's own.

    ``rate`` is requests a second over time, of which ``burst`` may come at once (None: as many as
    in one second). ``concurrency`` is how many may be under way or held, ``body_bytes`` how large
    the body of each may be. 0 for the rate, for concurrency and for the size: no limit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rate: float | None = Field(default=None, ge=0, le=1_000_000)
    burst: int | None = Field(default=None, ge=1, le=1_000_000)
    concurrency: int | None = Field(default=None, ge=0, le=100_000)
    body_bytes: int | None = Field(default=None, ge=0)

    def over(self, general: RequestLimits) -> RequestLimits:
        """These, and those of ``general`` where these say nothing. A rate of one's own has a burst
        of one's own."""
        mine = self.model_dump(exclude_none=True)
        if self.rate is not None:
            mine.setdefault("burst", None)
        return RequestLimits(**(general.model_dump() | mine))
