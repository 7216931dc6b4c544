"""The engine's line to its supervisor: proofs in one direction, news of commits in the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from node.engine.durability import Outcome, Proof
from node.wire import Client, WireError

NEWS_EVERY = 0.05
"""Seconds between two notices about commits, at the most often."""


class SupervisorLink:
    """`node.engine.durability.Barrier` through the supervisor's socket."""

    def __init__(self, client: Client, counts: Callable[[], dict[str, int]]):
        """
        Args:
            counts: how many executions are in each state, for those who watch.
        """
        self._client = client
        self._counts = counts
        self._sequence = 0
        self._oldest_at: float | None = None

    @property
    def lost(self) -> asyncio.Event:
        """Set once the supervisor is gone."""
        return self._client.lost

    async def prove(self, sequence: int) -> Proof:
        """Ask for a proof that all events up to ``sequence`` are in the bucket and still ours."""
        if self._oldest_at is not None:
            self._tell()  # the supervisor must know of a commit before it proves it
        try:
            answer = await self._client.call("barrier", sequence=sequence)
        except WireError:
            return Proof(Outcome.UNKNOWN)
        return Proof(Outcome(answer["outcome"]), answer["bookmark"])

    def committed(self, sequence: int, at: float) -> None:
        """Pass on that a commit returned; commits close together share a notice.

        The notice bears the time of the oldest of them, since that is whose age is the lag.
        """
        self._sequence = sequence
        if self._oldest_at is None:
            self._oldest_at = at
            asyncio.get_running_loop().call_later(NEWS_EVERY, self._tell)

    def idle(self, rest: int | None, next_wake: float | None) -> None:
        """Say that there is nothing to do (which ``rest`` this is; None: there is something), and
        when time alone will make something happen next: unix seconds, None for never."""
        self._client.notify("idle", rest=rest, next_wake=next_wake)

    async def resting(self, next_wake: float | None) -> None:
        """Say, as the last thing, when time alone would have made something happen next: unix
        seconds, None for never. Raises `WireError`."""
        self._tell()
        await self._client.call("resting", next_wake=next_wake)

    def _tell(self) -> None:
        if self._oldest_at is None:
            return
        self._client.notify(
            "committed", sequence=self._sequence, at=self._oldest_at, executions=self._counts()
        )
        self._oldest_at = None
