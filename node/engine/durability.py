"""How sure the log must be before anything depends on it, and who proves it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum
from heapq import heappop, heappush
from time import perf_counter
from typing import Final, Protocol

from node.engine.errors import DurabilityUnavailable, EngineStopped

logger = logging.getLogger(__name__)


class Durability(StrEnum):
    """When what happened must be in object storage, from the weakest to the strongest."""

    ASYNC = "async"
    """The log follows within about a second."""
    BEFORE_EFFECTS = "before_effects"
    """An activity's intent is proven before it starts."""
    EVERY_COMMIT = "every_commit"
    """Also, nothing is told to a workflow before it is proven."""

    @property
    def rank(self) -> int:
        """0, 1, 2: a higher rank promises more."""
        return _RANKS[self]


_RANKS: Final = {level: rank for rank, level in enumerate(Durability)}


def effective(
    floor: Durability, workflow: Durability | None, activity: Durability | None = None
) -> Durability:
    """What holds: the activity's own level, else the workflow's, never below the floor."""
    wanted = activity or workflow or floor
    return wanted if wanted is floor or _RANKS[wanted] >= _RANKS[floor] else floor


class Outcome(Enum):
    """The answer to "is everything up to this sequence in object storage, and is it ours?"."""

    DURABLE = "durable"
    TIMED_OUT = "timed_out"
    FENCED = "fenced"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Proof:
    """One answer; `bookmark` (epoch:sequence) comes with DURABLE."""

    outcome: Outcome
    bookmark: str | None = None


class Barrier(Protocol):
    """The supervisor's side. Joins concurrent requests; never answers DURABLE on hope."""

    async def prove(self, sequence: int) -> Proof:
        """Prove every event up to `sequence`, all of which are committed, durable."""


class Proofs:
    """What is proven so far, and everyone who waits for more.

    One request is in flight at a time and covers whoever waits when it starts; it asks for
    the newest committed sequence. Timed out and unknown are asked again, with a back-off;
    fenced ends it all. `answered` gets each answer and the seconds it took. Lives on the
    engine's loop.
    """

    def __init__(
        self,
        barrier: Barrier | None,
        *,
        committed: Callable[[], int],
        on_fenced: Callable[[], None],
        answered: Callable[[Outcome, float], None] = lambda outcome, seconds: None,
        pause: float = 0.05,
        longest_pause: float = 2.0,
    ) -> None:
        self._barrier = barrier
        self._committed = committed
        self._on_fenced = on_fenced
        self._answered = answered
        self._pause = pause
        self._longest_pause = longest_pause
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = 0
        self._asking: asyncio.Task[None] | None = None
        self._stopped = False
        self.fenced = False
        self.sequence = 0
        """Everything up to here is proven."""

    @property
    def available(self) -> bool:
        """Whether there is anyone to ask."""
        return self._barrier is not None

    @property
    def asking(self) -> bool:
        """Whether a proof is being asked for."""
        return self._asking is not None

    async def wait(self, sequence: int) -> None:
        """Return when `sequence` is proven. Raises EngineStopped, DurabilityUnavailable."""
        if sequence > self.sequence:
            await self._waiter(sequence)

    def then(self, sequence: int, function: Callable[[], None]) -> None:
        """Call `function` on the loop when `sequence` is proven, in the order of sequences;
        never when the engine stops first. Raises EngineStopped, DurabilityUnavailable."""

        def done(future: asyncio.Future[None]) -> None:
            if not future.cancelled() and future.exception() is None:
                function()

        # Even what is proven already takes its turn, behind what was released before it.
        self._waiter(sequence).add_done_callback(done)

    def _waiter(self, sequence: int) -> asyncio.Future[None]:
        if self._stopped:
            raise EngineStopped("the engine has stopped; nothing more will be proven")
        if self._barrier is None:
            raise DurabilityUnavailable("nothing here can prove that a commit is durable")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if sequence <= self.sequence:
            future.set_result(None)
            return future
        self._count += 1
        heappush(self._waiting, (sequence, self._count, future))
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask(self._barrier), name="durability")
        return future

    async def _ask(self, barrier: Barrier) -> None:
        pause = self._pause
        try:
            while self._forget_the_gone():
                target = max(self._committed(), self._waiting[0][0])
                began = perf_counter()
                try:
                    proof = await barrier.prove(target)
                except Exception as error:
                    logger.warning("the durability barrier raised: %s", error)
                    proof = Proof(Outcome.UNKNOWN)
                self._answered(proof.outcome, perf_counter() - began)
                if proof.outcome is Outcome.DURABLE:
                    self.sequence = max(self.sequence, target)
                    pause = self._pause
                    self._release()
                elif proof.outcome is Outcome.FENCED:
                    self.fenced = True
                    self.stop()
                    self._on_fenced()
                    return
                else:
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, self._longest_pause)
        finally:
            self._asking = None

    def _forget_the_gone(self) -> bool:
        while self._waiting and self._waiting[0][2].done():
            heappop(self._waiting)
        return bool(self._waiting)

    def _release(self) -> None:
        while self._waiting and self._waiting[0][0] <= self.sequence:
            future = heappop(self._waiting)[2]
            if not future.done():
                future.set_result(None)

    def stop(self) -> None:
        """Nothing will be proven any more: everyone who waits gets EngineStopped."""
        self._stopped = True
        for _, _, future in self._waiting:
            if not future.done():
                future.set_exception(EngineStopped("the engine stopped before it was proven"))
        self._waiting.clear()

    async def close(self) -> None:
        """Stop and wait for the request in flight to be gone."""
        self.stop()
        task = self._asking
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
