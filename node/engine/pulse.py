"""The heartbeats of one attempt of an activity."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from node.engine.errors import ActivityCancelled
from node.engine.payload import plain_json
from node.engine.stream_publisher import ActivityStream, Log

#: Seconds between two heartbeats in the log. What comes faster is kept until then.
LOG_EVERY: Final = 1.0


class Pulse:
    """Belongs to the loop that made it; `beat` and `cancelled` may be used on any thread.

    `log` is called on the loop with progress (JSON) that is to be logged; `progress` is what an
    earlier attempt left.
    """

    # Most attempts never use theirs, so what is the same for each at first is kept once.
    _next = 0.0
    _handle: asyncio.TimerHandle | None = None
    _deadline: asyncio.Timeout | None = None
    _within: float | None = None
    _cancelled = False
    _over = False

    def __init__(
        self, log: Callable[[str], None], progress: str | None, publish: Log | None = None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._log = log
        self._publish = publish
        self._streams: dict[str, ActivityStream] = {}
        self._logged = self._latest = self._left = progress

    @property
    def progress(self) -> Any:
        """What an earlier attempt left."""
        return None if self._left is None else json.loads(self._left)

    @property
    def cancelled(self) -> bool:
        """Nobody waits for the activity any more."""
        return self._cancelled

    def beat(self, progress: Any) -> None:
        """Raises ActivityCancelled, PayloadError, PayloadTooLarge."""
        if self.cancelled:
            raise ActivityCancelled("nobody waits for this activity any more")
        text = None if progress is None else plain_json(progress, "heartbeat")
        with suppress(RuntimeError):  # the loop is closed: nobody is there to hear it
            self._loop.call_soon_threadsafe(self._beat, text)

    def watch(self, deadline: asyncio.Timeout, within: float | None) -> None:
        """Move `deadline` `within` seconds on at every beat."""
        self._deadline, self._within = deadline, within

    def stream(self, name: str) -> ActivityStream:
        """A stream that the attempt may publish to."""
        stream = self._streams.get(name)
        if stream is None:
            assert self._publish is not None
            stream = ActivityStream(name, self._loop, self._publish, partial(self._beat, None))
            stream = self._streams.setdefault(name, stream)
        return stream

    def end(self, *, cancelled: bool = False) -> None:
        """The attempt is over: log what was kept back, unless it was `cancelled`."""
        for stream in self._streams.values():
            stream.end(cancelled=cancelled)
        if not (cancelled or self._over):
            self._flush()
        self._over = True
        # A thread that goes on after its attempt's timeout learns it from its next beat.
        self._cancelled = True
        if self._handle is not None:
            self._handle.cancel()

    def _beat(self, text: str | None) -> None:
        if self._over:
            return
        now = self._loop.time()
        if self._deadline is not None and self._within is not None:
            with suppress(RuntimeError):  # it has just expired
                self._deadline.reschedule(now + self._within)
        if text is None:
            return
        self._latest = text
        if now >= self._next:
            self._flush()
        elif self._handle is None:
            self._handle = self._loop.call_at(self._next, self._flush)

    def _flush(self) -> None:
        self._handle = None
        if self._latest is not None and self._latest != self._logged:
            self._logged = self._latest
            self._next = self._loop.time() + LOG_EVERY
            self._log(self._latest)
