"""The faults, each with what it does to a lab that is under load."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from signal import SIGKILL, SIGSTOP
from typing import Final, Literal

from tests.faults import chains, grounds, processes, stores
from tests.faults.lab import Lab, Verdict
from tests.faulty_store import Hung, Late, Refused, Reset

Does = Callable[[Lab, random.Random], Awaitable[Verdict]]


@dataclass(frozen=True)
class Case:
    """A fault. ``may_refuse``: the next machine may say loudly that the content is damaged; what is
    never allowed is to serve without what was acknowledged. ``long`` ones are left out of the short
    form, and run once. ``ground`` is what the first node stands on in place of the machine's own.
    ``direct``: the node reaches the store without the proxy, which holds every body in memory."""

    name: str
    does: Does
    may_refuse: bool = False
    long: bool = False
    ground: Literal["", "disk", "clock"] = ""
    direct: bool = False


def _store(name: str, *what: object, long: bool = False) -> Case:
    return Case(f"store: {name}", _with(stores.for_a_while, *what), long=long)


def _with(does: Callable[..., Awaitable[Verdict]], *what: object) -> Does:
    async def done(lab: Lab, moments: random.Random) -> Verdict:
        return await does(lab, moments, *what)

    return done


def _signal(process: str, what: str, *how: object, long: bool = False) -> Case:
    return Case(f"{process}: {what}", _with(processes.signalled, process, *how), long=long)


def _chain(what: str, spoil: chains.Spoil, *, may_refuse: bool = True) -> Case:
    does = partial(chains.spoiled, spoil=spoil)
    return Case(f"a file of the chain is {what}", does, may_refuse=may_refuse)


CASES: Final = (
    Case("the machine is lost", processes.machine_lost),
    _signal("engine", "SIGKILL, five times", SIGKILL, 5),
    _signal("engine", "SIGSTOP for 2 s", SIGSTOP, 1, 2.0),
    _signal("sidecar", "SIGKILL, five times", SIGKILL, 5),
    _signal("sidecar", "SIGSTOP for 2 s", SIGSTOP, 1, 2.0),
    _signal("sidecar", "SIGSTOP for 30 s", SIGSTOP, 1, 30.0, long=True),
    Case("supervisor: SIGKILL, two times, restarted in place", processes.supervisor_killed),
    _signal("supervisor", "SIGSTOP for 2 s", SIGSTOP, 1, 2.0),
    _store("every answer 300 ms late", Late(0.3), 1.0, 4.0),
    _store("half of all 429", Refused(429, "TooManyRequests"), 0.5, 4.0),
    _store("half of all 500", Refused(500, "InternalError"), 0.5, 4.0),
    _store("all 503 SlowDown", Refused(503, "SlowDown"), 1.0, 4.0),
    _store("half of all 403 AccessDenied", Refused(403, "AccessDenied"), 0.5, 4.0),
    _store("credentials expired (403)", Refused(403, "ExpiredToken"), 1.0, 4.0),
    _store("connections reset before", Reset(), 0.5, 4.0),
    _store("writes reset after they were done", Reset(after=True), 0.5, 4.0, "put"),
    _store("gone for 1 s", Reset(), 1.0, 1.0),
    _store("gone for 30 s", Reset(), 1.0, 30.0, long=True),
    _store("gone for 5 min", Reset(), 1.0, 300.0, long=True),
    Case("store: one upload hangs for good", stores.one_upload_hangs, long=True),
    _store("all hangs for 15 s", Hung(), 1.0, 15.0, long=True),
    Case(
        "the machine is lost while the store is gone",
        _with(stores.lost_during, Reset(), 1.0, 2.0),
    ),
    Case(
        "the machine is lost while writes are lost",
        _with(stores.lost_during, Reset(after=True), 0.5, 2.0, "put"),
    ),
    Case("lists are cut short during the take-over", processes.lists_cut_short),
    Case(
        "the take-over is interrupted at every step",
        processes.interrupted_at_each_request,
    ),
    Case("a zombie owner wakes up beside its heir", processes.zombie),
    Case("two sidecars on one file", processes.two_sidecars, may_refuse=True),
    _chain("missing", chains.remove),
    _chain("truncated", chains.truncate),
    _chain("garbled", chains.garble),
    _chain("changed by one bit", chains.flip),
    _chain("there twice", chains.duplicate, may_refuse=False),
    Case("VACUUM and changes of the schema", chains.vacuumed),
    Case("a foreign writer that checkpoints", chains.checkpointed),
    Case("the disk is full, three times", grounds.disk_full, ground="disk"),
    Case("the clock steps by minutes and by an hour", grounds.clock_steps, ground="clock"),
    Case("a chain of 10,000 objects", chains.many_objects, long=True, direct=True),
    Case("a database of 1 GB", chains.large, long=True, direct=True),
)
