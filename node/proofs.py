"""What of a node's commits is proven to be in the bucket: asked for, kept up, and measured."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from backup.barrier import GroupBarrier, Outcome, Round
from backup.lag import Lag, LagTracker
from backup.litestream.control import ControlError, Positions
from backup.litestream.progress import Cure, Progress
from backup.litestream.sidecar import Sidecar, SidecarFailed

PROOF_EVERY = 1.0
"""Seconds between two proofs while something committed is not proven."""
FINAL_TIMEOUT = 30.0
"""Seconds for the last proof of a planned stop."""


class Replication:
    """The sidecar as the barrier uses it: only while it streams, every answer noted."""

    def __init__(self, sidecar: Sidecar, tracker: LagTracker):
        self._sidecar = sidecar
        self._tracker = tracker
        self._streaming = asyncio.Event()
        self._restarts = 0

    def started(self) -> None:
        """The sidecar has its first position; before that it must not be asked to sync."""
        self._streaming.set()

    def ended(self) -> None:
        """The sidecar is gone. A sync that this cuts off fails."""
        self._streaming.clear()

    def restart(self) -> None:
        """End the sidecar on purpose. A sync that this cuts off is asked of the next one."""
        self._restarts += 1
        self.ended()
        self._sidecar.kill()

    async def streaming(self) -> None:
        """Wait until the sidecar can be asked."""
        await self._streaming.wait()

    async def sync(self, timeout: float) -> Positions:
        """Upload all that is committed. Raises `ControlError`.

        One that a `restart` cuts off has proven nothing and found nothing wrong either, so it
        begins again with the next sidecar. The barrier bounds how long that may take.
        """
        while True:
            await self._streaming.wait()
            restarts = self._restarts
            try:
                seen = await self._sidecar.sync(timeout)
            except ControlError:
                if self._restarts == restarts:
                    raise
            else:
                self._tracker.positions(seen.txid, seen.replicated)
                return seen

    async def cure(self, cure: Cure) -> None:
        """Do something about a sidecar that runs and uploads nothing."""
        if cure is Cure.RESTART_REPLICATION and self._streaming.is_set():
            try:
                await self._sidecar.control.restart_replication()
            except ControlError:
                # It does not even answer its control socket: only a new process helps.
                cure = Cure.RESTART_SIDECAR
        if cure is Cure.RESTART_SIDECAR:
            self.restart()

    async def look(self) -> None:
        """Note the positions without an upload: they are shown, and prove nothing."""
        if self._streaming.is_set():
            with contextlib.suppress(ControlError):
                seen = await self._sidecar.control.sync(wait=False, timeout=2.0)
                self._tracker.positions(seen.txid, seen.replicated)


class Proofs:
    """Proves a node's commits through its barrier, on request and on its own account."""

    def __init__(
        self,
        barrier: GroupBarrier,
        replication: Replication,
        tracker: LagTracker,
        alive: Callable[[], bool],
        fenced: Callable[[str], None],
        incident: Callable[[str], None],
        clock: Callable[[], float],
        store_answers: Callable[[], Awaitable[bool]],
    ):
        """
        Args:
            alive: whether the host still has its authority.
            fenced: told, with the reason, when the bucket names another owner.
            incident: told of proofs that failed.
            clock: unix seconds.
            store_answers: whether the bucket can be read, past the sidecar.
        """
        self._barrier = barrier
        self._store_answers = store_answers
        self._progress = Progress()
        self._replication = replication
        self._tracker = tracker
        self._alive = alive
        self._fenced = fenced
        self._incident = incident
        self._clock = clock
        self._news = asyncio.Event()

    def committed(self, sequence: int, at: float) -> None:
        """The engine has committed up to ``sequence``, the oldest of it at unix time ``at``."""
        self._tracker.committed(sequence, at)
        self._news.set()

    async def prove(self, sequence: int) -> Round:
        """Prove all events up to ``sequence``, which were committed before this call."""
        if not self._alive():
            return Round(Outcome.FENCED, detail="the host lost its authority")
        result = await self._barrier.prove()
        if not self._alive():
            # The bucket alone decides who owns the tenant, but a zombie answers nothing.
            return Round(Outcome.FENCED, detail="the host lost its authority")
        if result.outcome is Outcome.DURABLE:
            self._tracker.proven(sequence, result.txid, self._clock())
        elif result.outcome is Outcome.FENCED:
            self._fenced(result.detail)
        return result

    async def keep_proving(self) -> None:
        """Prove what was committed without anybody waiting for it: it is the measure of the lag."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._tracker.behind:
                result = await self.prove(self._tracker.sequence)
                if result.outcome is Outcome.FENCED:
                    return
                if result.outcome is Outcome.DURABLE:
                    self._progress.proven()
                else:
                    self._incident(f"not proven: {result.outcome}: {result.detail}")
                    await self._replication.look()
                    await self._cure_what_is_stuck()
                await asyncio.sleep(PROOF_EVERY)

    async def _cure_what_is_stuck(self) -> None:
        answers = await self._store_answers()
        cure = self._progress.failed(time.monotonic(), store_answers=answers)
        if cure is Cure.NONE:
            return
        done = {
            Cure.RESTART_REPLICATION: "its replication is stopped and started",
            Cure.RESTART_SIDECAR: "it is killed and started again",
        }
        more = "; nothing has helped so far, look at its log" if self._progress.hopeless else ""
        self._incident(f"litestream uploads nothing, though the store answers: {done[cure]}{more}")
        await self._replication.cure(cure)

    @property
    def hopeless(self) -> bool:
        """Whether the sidecar uploads nothing, whatever was done about it."""
        return self._progress.hopeless

    async def final(self) -> int:
        """Prove what a stopped engine has left; the position. Litestream's own last sync is not
        verified: it exits 0 even when that failed.

        Raises:
            SidecarFailed: it could not be proven in time.
        """
        until = time.monotonic() + FINAL_TIMEOUT
        while True:
            result = await self.prove(self._tracker.sequence)
            if result.outcome is Outcome.DURABLE:
                return result.txid
            if result.outcome is Outcome.FENCED or time.monotonic() >= until:
                raise SidecarFailed(f"the final sync is {result.outcome}: {result.detail}")
            await asyncio.sleep(0.2)

    def lag(self) -> Lag:
        return self._tracker.lag(self._clock())

    async def close(self) -> None:
        """Answer nobody as durable any more."""
        await self._barrier.close()
