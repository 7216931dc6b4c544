"""The durability barrier: proof that all that was committed is in the bucket, and still ours.

The order is the protocol's (docs/protocol.md, "Durable acknowledgement"): the commits have
returned; then a sync starts; it answers with equal, non-zero positions; then ``owner.json`` is
read by a request sent after that answer, and still names this very claim. Anything else is not
proven. Requests that arrive while one round is in flight share the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

from backup.errors import StoreError
from backup.litestream.control import ControlError, Positions
from backup.ownership import Owner, OwnerRecord

ROUND_TIMEOUT = 10.0
"""Seconds after which a round ends as timed out."""


class Outcome(StrEnum):
    """What a round showed. Only ``durable`` is proof."""

    DURABLE = "durable"
    TIMED_OUT = "timed_out"
    FENCED = "fenced"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Round:
    """The result of a round; ``txid`` is the proven position when it is durable."""

    outcome: Outcome
    txid: int = 0
    detail: str = ""


class GroupBarrier:
    """Joins concurrent requests: one round in flight, the next covers all who wait."""

    def __init__(
        self,
        sync: Callable[[float], Awaitable[Positions]],
        read_owner: Callable[[], Awaitable[OwnerRecord | None]],
        owner: Owner,
        epoch: int,
        *,
        round_timeout: float = ROUND_TIMEOUT,
        incident: Callable[[str], None] = lambda text: None,
    ):
        """
        Args:
            sync: uploads all committed, within that many seconds, and tells the positions.
            read_owner: reads ``owner.json``, uncached.
            owner: the claim that must still stand.
            epoch: the epoch of that claim.
            incident: told of what must not happen, such as a replica ahead of its source.
        """
        self._sync = sync
        self._read_owner = read_owner
        self._owner = owner
        self._epoch = epoch
        self._round_timeout = round_timeout
        self._incident = incident
        self._waiting: list[asyncio.Future[Round]] = []
        self._runner: asyncio.Task[None] | None = None
        self._closed = False
        self.rounds = 0

    async def prove(self) -> Round:
        """Prove all commits that had returned before this call."""
        if self._closed:
            return Round(Outcome.UNKNOWN, detail="the barrier is closed")
        waiter: asyncio.Future[Round] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run())
        return await waiter

    async def close(self) -> None:
        """Answer nobody as durable any more; a round in flight ends as unknown."""
        self._closed = True
        if self._runner is not None:
            self._runner.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._runner
        self._settle(self._waiting, Round(Outcome.UNKNOWN, detail="the barrier is closed"))

    async def _run(self) -> None:
        while self._waiting:
            covered, self._waiting = self._waiting, []
            result = Round(Outcome.UNKNOWN, detail="the barrier is closed")
            try:
                result = await self._round()
            finally:
                self._settle(covered, result)

    async def _round(self) -> Round:
        self.rounds += 1
        try:
            async with asyncio.timeout(self._round_timeout):
                return await self._once()
        except TimeoutError:
            return Round(Outcome.TIMED_OUT, detail=f"no proof within {self._round_timeout:.0f} s")

    async def _once(self) -> Round:
        while True:
            try:
                seen = await self._sync(self._round_timeout)
            except ControlError as error:
                return Round(Outcome.UNKNOWN, detail=str(error))
            if seen.txid == 0 or seen.replicated == 0:
                return Round(Outcome.UNKNOWN, detail=f"positions are not known: {seen}")
            if seen.replicated > seen.txid:
                text = f"the replica is ahead of its source: {seen}"
                self._incident(text)
                return Round(Outcome.UNKNOWN, detail=text)
            if seen.replicated == seen.txid:
                break
            # Behind by what the monitor added meanwhile: it takes another sync, not a guess.
            await asyncio.sleep(0)
        try:
            record = await self._read_owner()
        except StoreError as error:
            return Round(Outcome.UNKNOWN, detail=str(error))
        if record is None or not record.held_by(self._owner, self._epoch):
            whose = "nobody" if record is None else f"{record.host} at epoch {record.epoch}"
            return Round(Outcome.FENCED, detail=f"the tenant belongs to {whose}")
        return Round(Outcome.DURABLE, seen.txid)

    @staticmethod
    def _settle(waiters: list[asyncio.Future[Round]], result: Round) -> None:
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(result)
