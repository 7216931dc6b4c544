"""Running an asyncio program so that Ctrl-C and SIGTERM stop it cleanly, once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Interrupted(Exception):
    """The user asked to stop; everything is cleaned up by now. `signal` is what arrived."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(f"stopped by {number.name}")
        self.signal = number


def run(program: Coroutine[Any, Any, T], on_signal: Callable[[], None] | None = None) -> T:
    """Run `program` to its end. Raises Interrupted after a signal, once its clean-up is done.

    The first signal cancels the program, so that its `finally` blocks run; further
    ones are ignored, because an interrupted clean-up is what leaves things behind.
    `on_signal` is called for every one.
    """
    arrived: list[signal.Signals] = []

    async def main() -> T:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(program)

        def stop(number: signal.Signals) -> None:
            if on_signal is not None:
                on_signal()
            arrived.append(number)
            if len(arrived) == 1:
                task.cancel()

        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, stop, number)
        try:
            return await task
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        if arrived:
            raise Interrupted(arrived[0]) from None
        raise
