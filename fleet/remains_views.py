"""What a host still has of nodes that have ended."""

from __future__ import annotations

from pydantic import Field

from fleet.views import Page, View


class RemainsView(View):
    """A folder in a host's quarantine, and whether it goes. `epoch` is 0 where it is not known;
    `put_away_at` in UNIX seconds."""

    folder: str
    tenant: str
    epoch: int
    put_away_at: float
    bytes: int
    goes: bool = Field(description="with the next look through it")
    reason: str


class RemainsList(Page[RemainsView]):
    """All that is in a host's quarantine."""
