"""A durability barrier in memory, which proves, times out or fences as a test wants."""

from __future__ import annotations

import asyncio

from node.engine.durability import Outcome, Proof


class MemoryBarrier:
    """Proves everything, until it is told otherwise."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        """The sequences that proofs were asked for, in order."""
        self.proven = 0
        """Everything up to here was proven."""
        self._answers: list[Outcome] = []
        self._fenced = False
        self._open = asyncio.Event()
        self._open.set()

    async def prove(self, sequence: int) -> Proof:
        """What an engine asks."""
        self.asked.append(sequence)
        await self._open.wait()
        if self._fenced:
            return Proof(Outcome.FENCED)
        outcome = self._answers.pop(0) if self._answers else Outcome.DURABLE
        if outcome is not Outcome.DURABLE:
            return Proof(outcome)
        self.proven = max(self.proven, sequence)
        return Proof(outcome, f"1:{sequence}")

    def time_out(self, times: int = 1) -> None:
        """The next `times` requests are not proven in time."""
        self._answers += [Outcome.TIMED_OUT] * times

    def answer(self, *outcomes: Outcome) -> None:
        """The next requests are answered like this."""
        self._answers += outcomes

    def fence(self) -> None:
        """Another owner has the log: every request from now on says so."""
        self._fenced = True

    def hold(self) -> None:
        """Answer nothing until `release`."""
        self._open.clear()

    def release(self) -> None:
        """Answer what was held."""
        self._open.set()
