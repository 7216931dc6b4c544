"""Reading the log beside the engine: on a thread of its own, for a short time.

Whoever reads for long keeps Litestream from folding the write-ahead log into the file, and in the
end the writer from writing. So every piece of work has a connection of its own, is cut off after
its time, and leaves no statement and no transaction behind.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, TypeVar

import apsw

from node.engine.errors import EngineStopped, ReadersBusy, StatementTooSlow
from node.engine.schema import connect

T = TypeVar("T")
#: Pieces of work at once. Each holds on to the log as it was when it began.
AT_ONCE: Final = 2
#: Pieces of work that may wait for one of those to end.
WAITING: Final = 50
#: Instructions of SQLite's between two looks at the clock; some tens of microseconds.
STRIDE: Final = 1000


class Aside:
    """Reads one log. `timer` gives seconds."""

    def __init__(self, path: Path, timer: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._timer = timer
        self._threads: ThreadPoolExecutor | None = None
        self._working = 0
        self._open: set[apsw.Connection] = set()
        self._closed = False

    async def read(self, work: Callable[[apsw.Connection], T], *, seconds: float) -> T:
        """What `work` makes of a connection, within so many seconds.

        Raises StatementTooSlow, ReadersBusy, and what `work` raises.
        """
        if self._working >= AT_ONCE + WAITING:
            raise ReadersBusy("too many are reading the log just now")
        if self._threads is None:
            self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="log-reader")
        self._working += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._work, work, seconds)
        finally:
            self._working -= 1

    def _work(self, work: Callable[[apsw.Connection], T], seconds: float) -> T:
        with closing(connect(self._path, read_only=True)) as db:
            self._open.add(db)
            try:
                if self._closed:
                    raise EngineStopped("the engine is closed")
                return cut_off(db, work, seconds, self._timer)
            finally:
                self._open.discard(db)

    def close(self) -> None:
        """Cut off those that read, and wait for them to be gone."""
        self._closed = True
        while self._open:
            for db in list(self._open):
                with suppress(apsw.ConnectionClosedError):
                    db.interrupt()
            time.sleep(0.001)
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)


def cut_off(
    db: apsw.Connection,
    work: Callable[[apsw.Connection], T],
    seconds: float,
    timer: Callable[[], float] = time.monotonic,
) -> T:
    """What `work` makes of a connection. Raises StatementTooSlow once its time is over."""
    until = timer() + seconds
    db.set_progress_handler(lambda: timer() > until, STRIDE)
    try:
        return work(db)
    except apsw.InterruptError:
        raise StatementTooSlow(f"it was cut off after {seconds:g} s") from None
    finally:
        db.set_progress_handler(None)
