"""Virtual time: domains that fail, processes that run in them, and one queue that orders all.

Everything random comes from one generator, and nothing reads a real clock, so a seed is a schedule.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Generator
from typing import TypeAlias, TypeVar

T = TypeVar("T")
Step: TypeAlias = Generator[float, None, T]
"""A process, or a part of one: it yields the virtual seconds until it goes on."""

STALL = 0.0015
"""Share of the steps before which a process is held up for long, by no fault that anybody sees."""
STALLED_FOR = 9.0
"""Seconds at most of such a stall."""


class Violation(Exception):
    """An invariant does not hold; ``rule`` names it."""

    def __init__(self, rule: str, text: str):
        super().__init__(f"{rule}: {text}")
        self.rule = rule


class Domain:
    """What fails together and shares a clock: a host, or a coordinator's machine."""

    def __init__(self, world: World, name: str, rate: float = 1.0):
        self.world = world
        self.name = name
        self.rate = rate
        self.trusted = True
        """Whether its clock runs within the bound that the protocol assumes."""
        self.dead = False
        self.frozen = False
        self.cut_off = False
        """Whether it cannot reach the store."""
        self._local = world.rng.uniform(0.0, 1e6)
        self._since = world.now
        self._parked: list[Process] = []
        self.traps: dict[str, Callable[[], None]] = {}
        """What happens to it the next time that it comes to a certain step."""

    def spring(self, step: str) -> None:
        """It comes to ``step`` now."""
        trap = self.traps.pop(step, None)
        if trap is not None:
            self.world.say(self.name, f"TRAP at {step}")
            trap()

    def now(self) -> float:
        """Its own clock, in its own seconds; it goes on while the domain is frozen."""
        return self._local + (self.world.now - self._since) * self.rate

    def run_at(self, rate: float) -> None:
        self._local, self._since, self.rate = self.now(), self.world.now, rate

    def lasting(self, seconds: float) -> float:
        """The virtual seconds that ``seconds`` of its own clock take."""
        return seconds / self.rate

    def park(self, process: Process) -> None:
        self._parked.append(process)

    def freeze(self) -> None:
        self.frozen = True

    def thaw(self) -> None:
        """Go on; what was due meanwhile comes in any order."""
        self.frozen = False
        waiting, self._parked = self._parked, []
        self.world.rng.shuffle(waiting)
        for process in waiting:
            self.world.resume(process, self.world.rng.uniform(0.0, 0.02))


class Process:
    """A body of steps in a domain. Stopping it leaves what it has sent on its way."""

    __slots__ = ("alive", "body", "domain")

    def __init__(self, domain: Domain, body: Step[None]):
        self.domain = domain
        self.body = body
        self.alive = True

    def stop(self) -> None:
        self.alive = False


class World:
    """The queue, the clock, the dice and the account of what happened."""

    def __init__(self, seed: int):
        self.rng = random.Random(seed)
        self.now = 0.0
        self.account: list[tuple[float, str, str]] = []
        self.calm = False
        """No new fault of any kind: no stalls, no lost requests."""
        self._queue: list[tuple[float, int, Process | Callable[[], None]]] = []
        self._order = itertools.count()
        self.number = itertools.count(1)

    def spawn(self, domain: Domain, body: Step[None]) -> Process:
        process = Process(domain, body)
        self.resume(process, 0.0)
        return process

    def resume(self, process: Process, after: float) -> None:
        heapq.heappush(self._queue, (self.now + after, next(self._order), process))

    def later(self, after: float, what: Callable[[], None]) -> None:
        """Something that no domain can hold up: a request that is on its way, a fault."""
        heapq.heappush(self._queue, (self.now + after, next(self._order), what))

    def say(self, who: str, text: str) -> None:
        self.account.append((self.now, who, text))

    def run(self, until: float, done: Callable[[], bool] = lambda: False) -> None:
        """Run all that is due up to ``until``, or until ``done`` (asked once a virtual second)."""
        ask_at = self.now
        while self._queue and self._queue[0][0] <= until:
            at, _, item = heapq.heappop(self._queue)
            self.now = at
            if isinstance(item, Process):
                self._step(item)
            else:
                item()
            if at >= ask_at:
                ask_at = at + 1.0
                if done():
                    return

    def _step(self, process: Process) -> None:
        domain = process.domain
        if not process.alive or domain.dead:
            return
        if domain.frozen:
            domain.park(process)
            return
        if not self.calm and self.rng.random() < STALL:
            self.resume(process, self.rng.uniform(0.1, STALLED_FOR))
            return
        try:
            after = next(process.body)
        except StopIteration:
            process.alive = False
            return
        self.resume(process, after)
