"""A scenario whose engine is cut off at every commit must end as if it never was."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from node.engine.errors import EngineStopped
from node.testing.lab import Lab

T = TypeVar("T")
Scenario = Callable[[Lab], Awaitable[T]]

#: Lives for each commit of the uninterrupted run, after which a scenario never ends.
LIVES: Final = 10


class NotDurable(AssertionError):
    """A scenario ended differently because its engine was cut off."""


@dataclass(frozen=True, slots=True)
class Survived(Generic[T]):
    """A scenario that ends the same wherever it is cut: what it returned, and in how many
    commits."""

    outcome: T
    commits: int


async def crash_everywhere(scenario: Scenario[T], *things: object, **options: Any) -> Survived[T]:
    """Run a scenario in a Lab of these things and options: to its end; then with the engine cut
    off after commit 1, after commit 2, and so on; then after every commit. Each time the log is
    opened again and the scenario called again, in a laboratory that gives what it starts and
    sends the same ids and keys as before.

    What it returns, and how every execution ended, must be the same each time, or NotDurable is
    raised. So must the scenario itself be able to be called again.
    """
    async with Lab(*things, **options) as lab:
        wanted = await _outcome(lab, scenario)
        commits = lab.commits
    for cut in range(1, commits + 1):
        await _survive(scenario, things, options, wanted, f"after commit {cut}", first=cut)
    await _survive(
        scenario, things, options, wanted, "after every commit", first=1, again=LIVES * commits
    )
    return Survived(wanted[0], commits)


async def _survive(
    scenario: Scenario[T],
    things: tuple[object, ...],
    options: dict[str, Any],
    wanted: tuple[T, dict[str, Any]],
    where: str,
    *,
    first: int,
    again: int = 0,
) -> None:
    async with Lab(*things, **options) as lab:
        lab.cut_off(after=first)
        for left in range(again, -2, -1):
            try:
                found = await _outcome(lab, scenario)
                break
            except EngineStopped:
                if not lab.was_cut:
                    raise
            await lab.restart(again=True)
            if left > 0:
                lab.cut_off(after=1)
        else:
            raise NotDurable(f"cut off {where}, it never came to an end")
    if found != wanted:
        raise NotDurable(f"cut off {where}, it ended as {found}, and uninterrupted as {wanted}")


async def _outcome(lab: Lab, scenario: Scenario[T]) -> tuple[T, dict[str, Any]]:
    returned = await scenario(lab)
    await lab.settle()
    return returned, lab.outcomes()
