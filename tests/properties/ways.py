"""A program in all ways: undisturbed, evicted at every await, and cut off at commits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from node.engine.durability import Durability
from tests.properties import laws
from tests.properties.programs import Program
from tests.properties.world import World, folder

Options = Mapping[str, Any]


def _every(commit: int) -> bool:
    return True


#: Besides undisturbed. Cut off only after every second or third commit, one that comes with
#: nothing before it in its life is followed by one that does not.
WAYS: Final[dict[str, Options]] = {
    "evicted": {"forced_replay": True},
    "every commit durable": {"durability": Durability.EVERY_COMMIT},
    "cut off after every commit": {"cut": _every},
    "cut off after every second commit": {"cut": lambda commit: commit % 2 == 0},
    "cut off after every third commit": {"cut": lambda commit: commit % 3 == 1},
    "cut off and evicted": {"cut": _every, "forced_replay": True},
    "cut off and durable": {"cut": _every, "durability": Durability.EVERY_COMMIT},
}


def survives(program: Program, ways: Iterable[str] | None = None, *, thorough: bool = False) -> int:
    """Run it undisturbed and in these ways, or in all; how many commits it has. `thorough` also
    cuts off once, after each single commit.

    Raises AssertionError or LogDamaged where the engine does not survive.
    """
    undisturbed = run(program)
    wanted = laws.outcome(undisturbed) if program.apart else None
    for way in WAYS if ways is None else ways:
        _compare(program, wanted, way, WAYS[way])
    if thorough:
        for last in range(1, undisturbed.commits + 1):
            _compare(program, wanted, f"cut off after commit {last}", {"cut": _once(last)})
    return undisturbed.commits


def run(program: Program, **options: Any) -> World:
    """One run, whose log and effects keep the laws."""
    with folder() as where:
        world = World(program, where, **options)
        asyncio.run(world.run())
        laws.check(world, options.get("durability", Durability.ASYNC))
        return world


def _once(last: int) -> Callable[[int], bool]:
    return lambda commit: commit == last


def _compare(program: Program, wanted: dict[str, Any] | None, way: str, options: Options) -> None:
    try:
        found = laws.outcome(run(program, **options))
    except AssertionError as error:
        raise AssertionError(f"{way}: {error}") from error
    if wanted is not None:
        different = {
            what: (found[what], wanted[what]) for what in wanted if found[what] != wanted[what]
        }
        assert not different, f"{way}, it ended otherwise; found and wanted: {different}"
