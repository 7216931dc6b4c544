"""Every state that can be reached, breadth first: what breaks is reached the shortest way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar("S")


class Broken(Exception):
    """A step breaks an invariant; ``invariant`` names it."""

    def __init__(self, invariant: str, text: str):
        super().__init__(f"{invariant}: {text}")
        self.invariant = invariant


class TooMany(Exception):
    """There are more states than were allowed, so nothing has been shown."""


@dataclass(frozen=True, slots=True)
class Found(Generic[S]):
    """What a search has seen. ``broken`` is None if every step from every state keeps to all
    invariants; else ``way`` are the steps that lead to it."""

    states: int
    steps: Counter[str]
    broken: Broken | None = None
    way: tuple[str, ...] = ()

    def report(self) -> str:
        """The way to what broke, a step a line."""
        if self.broken is None:
            return f"{self.states} states, nothing broke"
        lines = [f"{number:3} {step}" for number, step in enumerate(self.way, 1)]
        return "\n".join([f"{self.broken} (after {self.states} states)", *lines])


def search(first: S, steps: Callable[[S], Iterable[tuple[str, S]]], limit: int) -> Found[S]:
    """Take every step from every state that ``first`` leads to, each state once.

    Args:
        steps: what can happen in a state, as (what it is called, the state after it). It may raise
            `Broken`; a name's first word is what it is counted as.
        limit: states after which the search gives up.

    Raises:
        TooMany: there are more states than ``limit``.
    """
    came_from: dict[S, tuple[S, str] | None] = {first: None}
    seen: Counter[str] = Counter()
    frontier = [first]
    while frontier:
        following: list[S] = []
        for state in frontier:
            try:
                for name, after in steps(state):
                    seen[name.partition(" ")[0]] += 1
                    if after not in came_from:
                        came_from[after] = (state, name)
                        following.append(after)
            except Broken as broken:
                return Found(len(came_from), seen, broken, _way(came_from, state))
            if len(came_from) > limit:
                raise TooMany(f"more than {limit} states")
        frontier = following
    return Found(len(came_from), seen)


def _way(came_from: dict[S, tuple[S, str] | None], state: S) -> tuple[str, ...]:
    names: list[str] = []
    step = came_from[state]
    while step is not None:
        names.append(step[1])
        step = came_from[step[0]]
    return tuple(reversed(names))
