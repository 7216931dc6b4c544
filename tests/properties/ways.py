"""A program in all ways: undisturbed, evicted at every await, and cut off at commits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from node.engine.durability import Durability
from tests.properties import laws
from tests.properties.programs import Program
from tests.properties.world import World, folder

Cut = Callable[[int], bool]

#: Cut off after every commit, and only after every second or third one: then a commit that comes
#: with nothing before it in its life is followed by one that does not.
CUTS: dict[str, Cut] = {
    "every commit": lambda commit: True,
    "every second commit": lambda commit: commit % 2 == 0,
    "every third commit": lambda commit: commit % 3 == 1,
}


def survives(program: Program, *, thorough: bool = False) -> int:
    """Run it in all ways; how many commits it has. Raises AssertionError where its engine does
    not survive. `thorough` also cuts off once, after each single commit."""
    undisturbed = run(program)
    wanted = laws.outcome(undisturbed) if program.apart else None
    _compare(program, wanted, "evicted", forced_replay=True)
    _compare(program, wanted, "every commit durable", durability=Durability.EVERY_COMMIT)
    for words, cut in CUTS.items():
        _compare(program, wanted, f"cut off after {words}", cut=cut)
    _compare(program, wanted, "cut off and evicted", cut=CUTS["every commit"], forced_replay=True)
    if thorough:
        _compare(
            program,
            wanted,
            "cut off and durable",
            cut=CUTS["every commit"],
            durability=Durability.EVERY_COMMIT,
        )
        for last in range(1, undisturbed.commits + 1):
            _compare(program, wanted, f"cut off after commit {last}", cut=last.__eq__)
    return undisturbed.commits


def run(program: Program, **options: Any) -> World:
    """One run, whose log and effects keep the laws."""
    with folder() as where:
        world = World(program, where, **options)
        asyncio.run(world.run())
        laws.check(world, options.get("durability", Durability.ASYNC))
        return world


def _compare(program: Program, wanted: dict[str, Any] | None, way: str, **options: Any) -> None:
    try:
        found = laws.outcome(run(program, **options))
    except AssertionError as error:
        raise AssertionError(f"{way}: {error}") from error
    if wanted is not None:
        different = {
            what: (found[what], wanted[what]) for what in wanted if found[what] != wanted[what]
        }
        assert not different, f"{way}, it ended otherwise; found and wanted: {different}"
