"""A sync that the supervisor's own restart of the sidecar cuts off is no failed proof."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from backup.barrier import GroupBarrier, Outcome, Round
from backup.lag import LagTracker
from backup.litestream.control import ControlError, Positions
from backup.litestream.sidecar import Sidecar
from backup.ownership import Owner, OwnerRecord, activate, claim
from node.proofs import Proofs, Replication

ME = Owner(host="a", incarnation="l.n")
CUT_OFF = ControlError("/sync: RemoteProtocolError: Server disconnected")


class CutOff:
    """A sidecar that takes a sync and does not answer it: its death does, in any of its lives."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.killed = asyncio.Event()
        self.lives = 1

    async def sync(self, timeout: float) -> Positions:
        if self.lives > 1:
            return Positions(7, 7)
        self.asked.set()
        await self.killed.wait()
        raise CUT_OFF

    def kill(self) -> None:
        self.killed.set()


async def mine() -> OwnerRecord | None:
    return activate(claim(None, "t", ME, authority_ended=True), ME, 1)


async def answers() -> bool:
    return True


Lives = Callable[[CutOff, Replication], Awaitable[None]]


def proving(lives: Lives, round_timeout: float = 10.0) -> tuple[Round, list[str]]:
    """What one who waits is told, and the incidents, when ``lives`` happens during a sync."""

    async def run() -> tuple[Round, list[str]]:
        sidecar, tracker, incidents = CutOff(), LagTracker(), list[str]()
        replication = Replication(cast(Sidecar, sidecar), tracker)
        replication.started()
        barrier = GroupBarrier(replication.sync, mine, ME, 1, round_timeout=round_timeout)
        proofs = Proofs(
            barrier,
            replication,
            tracker,
            lambda: True,
            incidents.append,
            incidents.append,
            lambda: 0.0,
            answers,
        )
        proofs.committed(3, 0.0)
        keeping = asyncio.create_task(proofs.keep_proving())
        waiting = asyncio.create_task(proofs.prove(3))
        await sidecar.asked.wait()
        await lives(sidecar, replication)
        result = await waiting
        keeping.cancel()
        await proofs.close()
        return result, incidents

    return asyncio.run(run())


async def goes_on(sidecar: CutOff, replication: Replication) -> None:
    await asyncio.sleep(0)
    sidecar.lives += 1
    replication.started()


def test_who_waits_through_a_planned_restart_is_proven_by_the_next_sidecar() -> None:
    async def planned(sidecar: CutOff, replication: Replication) -> None:
        replication.restart()
        await goes_on(sidecar, replication)

    assert proving(planned) == (Round(Outcome.DURABLE, 7), [])


def test_a_sidecar_that_dies_by_itself_is_an_incident() -> None:
    """The twin of the test above, with the same cut and no plan."""

    async def unplanned(sidecar: CutOff, replication: Replication) -> None:
        sidecar.kill()
        replication.ended()
        await goes_on(sidecar, replication)

    result, incidents = proving(unplanned)
    assert result.outcome is Outcome.UNKNOWN
    assert incidents == [f"not proven: unknown: {CUT_OFF}"]


def test_a_planned_restart_that_takes_too_long_times_out() -> None:
    async def planned(sidecar: CutOff, replication: Replication) -> None:
        replication.restart()

    result, _ = proving(planned, round_timeout=0.02)
    assert result.outcome is Outcome.TIMED_OUT


@pytest.mark.parametrize("planned", [True, False])
def test_an_answer_that_came_before_the_end_is_used(planned: bool) -> None:
    """The positions of a sidecar that has answered and then died prove what they prove."""

    async def run() -> Positions:
        sidecar = CutOff()
        sidecar.lives = 2
        replication = Replication(cast(Sidecar, sidecar), LagTracker())
        replication.started()
        sync = asyncio.create_task(replication.sync(1.0))
        await asyncio.sleep(0)
        replication.restart() if planned else replication.ended()
        return await sync

    assert asyncio.run(run()) == Positions(7, 7)
