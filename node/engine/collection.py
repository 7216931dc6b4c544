"""Python's search for cyclic garbage, fitted to an engine.

An engine keeps very many small objects for as long as its executions are open, and makes and
drops some dozens a step. At Python's own thresholds a third of the time goes into looking
through them for garbage that is hardly there.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: Objects made and not dropped before the youngest are looked through: a few MB at most.
YOUNGEST: Final = 20_000
#: So many searches of one generation before the next one is searched. With 50, the second one had
#: a million objects to look through: half a second, in which nothing else happens.
OLDER: Final = 10


def install() -> None:
    """Search less often, in the whole process. Thresholds that are higher already stay, and
    so does a search that is off."""
    youngest, *older = gc.get_threshold()
    if youngest:
        gc.set_threshold(max(youngest, YOUNGEST), *(max(each, OLDER) for each in older))


@contextmanager
def paused() -> Iterator[None]:
    """No search while an opening engine replays: what that makes is there to stay, and looking
    through it again and again takes as long as the replays themselves."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
