"""Sends the spans that a log tells of, each once it can no longer be lost, and marks how far it is.

The log is the outbox: what could not be sent stays to be sent, over restarts and moves too. Only
what is proven is sent where that can be proven, so nothing is told that a lost host takes back. The
mark is set right after the spans are out; a crash between the two, or a mark that was lost with a
host's last second, has the same spans sent again, with the same ids.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

import apsw

from node.engine.durability import Outcome
from node.engine.engine import Engine
from node.engine.errors import EngineError, UnknownExecution
from node.engine.events import Event
from node.engine.marks import Mark
from node.spans import Span, Spans

logger = logging.getLogger(__name__)

#: Seconds for which events are gathered before their spans are sent.
GATHER: Final = 1.0
#: Events that are read at once.
AT_ONCE: Final = 500
#: Seconds to wait for a proof before it is asked for again.
PROOF_WITHIN: Final = 30.0
LONGEST_PAUSE: Final = 60.0
READER: Final = "traces"

Export = Callable[[Sequence[Span]], Awaitable[bool]]


class Outbox:
    """Follows the log of an open engine. `export` says whether it took the spans; what it did
    not take it is given again."""

    def __init__(self, engine: Engine, export: Export, *, gather: float = GATHER) -> None:
        self._engine = engine
        self._export = export
        self._gather = gather
        self._mark = Mark(engine.config.path, READER)
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._unsent: list[Span] = []
        self.spans = Spans(engine.config.lineage, self._history)
        self.sequence = 0
        """Everything up to here was sent."""

    def begin(self) -> None:
        """Go on where the last engine was; on a log that is new to it, from now on."""
        known = self._mark.read()
        if known is None:
            known = self._engine.sequence
            self._mark.write(known)
        self.sequence = known
        self._news.set()
        self._task = asyncio.create_task(self._follow(), name="outbox")

    def wake(self) -> None:
        """There are more events."""
        self._news.set()

    async def close(self, within: float = 2.0) -> None:
        """Send what there is, if that is quick. The rest is for the next engine."""
        task = self._task
        with suppress(TimeoutError, EngineError):
            async with asyncio.timeout(within):
                if task is not None:
                    task.cancel()
                    await asyncio.wait({task})
                await self._send()
        if task is not None:
            task.cancel()
        self._mark.close()

    async def _follow(self) -> None:
        while True:
            await self._news.wait()
            await asyncio.sleep(self._gather)
            self._news.clear()
            try:
                await self._send()
            except EngineError:
                return
            except Exception:
                logger.exception("traces are not sent any more until the engine starts again")
                return

    async def _send(self) -> None:
        while self._unsent or self._engine.sequence > self.sequence:
            if not self._unsent:
                events = self._engine.events_after(self.sequence, AT_ONCE)
                if not events:
                    return
                for event in events:
                    self._unsent += self.spans.feed(event)
                self.sequence = events[-1].sequence
                await asyncio.sleep(0)
            if self._unsent:
                if not await self._proven(self.sequence):
                    return
                await self._deliver()

    async def _proven(self, sequence: int) -> bool:
        engine = self._engine
        while engine.running:
            if not engine.can_prove:
                return engine.authority()
            outcome = await engine.prove(sequence, within=PROOF_WITHIN)
            if outcome is Outcome.DURABLE:
                return True
            if outcome is Outcome.FENCED:
                return False
            await asyncio.sleep(self._gather)
        return False

    async def _deliver(self) -> None:
        pause = 1.0
        while not await self._exported():
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _exported(self) -> bool:
        """Whether the spans are out. An export under way is waited for when this is cancelled, so
        that they are not sent again."""
        sending = asyncio.ensure_future(self._sending())
        try:
            return await asyncio.shield(sending)
        except asyncio.CancelledError:
            await sending
            raise

    async def _sending(self) -> bool:
        if not await self._export(self._unsent):
            return False
        self._sent()
        return True

    def _sent(self) -> None:
        self._unsent = []
        try:
            self._mark.write(self.sequence)
        except apsw.Error as error:
            # Busy or full: the next one is as good.
            logger.warning("how far traces were sent could not be noted: %s", error)

    def _history(self, id: str) -> list[Event]:
        try:
            return self._engine.events(id)
        except UnknownExecution:
            return []
