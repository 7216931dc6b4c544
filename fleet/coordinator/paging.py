"""Some of many things that have names, in the order of these."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Collection
from typing import Final, TypeVar

T = TypeVar("T")

MOST: Final = 500
"""Items of one page."""


def page(
    names: Collection[str],
    after: str,
    limit: int,
    view: Callable[[str], T | None],
) -> tuple[list[T], str | None]:
    """The first ``limit`` views of the names that come after ``after``, and what is ``after`` for
    the next page, None where there is none.

    A name that comes or goes meanwhile shifts nobody else. ``view`` gives None for what is not
    asked for; no more are looked at than it takes.
    """
    ordered = sorted(names)
    rest = iter(ordered[bisect.bisect_right(ordered, after) :])
    found: list[T] = []
    last = ""
    for name in rest:
        if len(found) == limit:
            return found, last
        one = view(name)
        if one is not None:
            found.append(one)
            last = name
    return found, None
