"""The durability barrier never says durable without proof; each rule has a broken twin."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from backup import ownership
from backup.barrier import GroupBarrier, Outcome, Round
from backup.errors import Unreachable
from backup.litestream.control import ControlError, Positions
from backup.ownership import Owner, OwnerRecord

ME = Owner(host="a", incarnation="l.n")
OTHER = Owner(host="b", incarnation="m.n")


def mine() -> OwnerRecord:
    return ownership.activate(ownership.claim(None, "t", ME, authority_ended=True), ME, 1)


def prove(
    sync: Callable[[float], Awaitable[Positions]],
    read: Callable[[], Awaitable[OwnerRecord | None]],
    **more: object,
) -> Round:
    async def run() -> Round:
        barrier = GroupBarrier(sync, read, ME, 1, **more)  # type: ignore[arg-type]
        return await barrier.prove()

    return asyncio.run(run())


def answering(*answers: Positions) -> Callable[[float], Awaitable[Positions]]:
    left = list(answers)

    async def sync(timeout: float) -> Positions:
        return left.pop(0) if len(left) > 1 else left[0]

    return sync


async def read_mine() -> OwnerRecord | None:
    return mine()


def test_equal_positions_and_my_record_are_proof() -> None:
    assert prove(answering(Positions(7, 7)), read_mine) == Round(Outcome.DURABLE, 7)


@pytest.mark.parametrize("positions", [Positions(7, 0), Positions(0, 0), Positions(0, 7)])
def test_zero_is_unknown(positions: Positions) -> None:
    assert prove(answering(positions), read_mine).outcome is Outcome.UNKNOWN


def test_behind_syncs_again() -> None:
    sync = answering(Positions(8, 7), Positions(9, 8), Positions(9, 9))
    assert prove(sync, read_mine) == Round(Outcome.DURABLE, 9)


def test_ahead_is_an_incident_and_no_proof() -> None:
    told: list[str] = []
    result = prove(answering(Positions(7, 9)), read_mine, incident=told.append)
    assert result.outcome is Outcome.UNKNOWN
    assert "ahead" in told[0]


@pytest.mark.parametrize(
    "record",
    [
        None,
        ownership.claim(mine(), "t", OTHER, authority_ended=True),
        mine().model_copy(update={"incarnation": "l.other"}),
        mine().model_copy(update={"epoch": 2}),
        mine().model_copy(update={"state": ownership.OwnerState.RELEASED}),
    ],
)
def test_another_owner_is_a_fence(record: OwnerRecord | None) -> None:
    async def read() -> OwnerRecord | None:
        return record

    assert prove(answering(Positions(7, 7)), read).outcome is Outcome.FENCED


def test_an_unreadable_record_is_unknown() -> None:
    async def read() -> OwnerRecord | None:
        raise Unreachable("down")

    assert prove(answering(Positions(7, 7)), read).outcome is Outcome.UNKNOWN


def test_a_failing_sync_is_unknown() -> None:
    async def sync(timeout: float) -> Positions:
        raise ControlError("500")

    assert prove(sync, read_mine).outcome is Outcome.UNKNOWN


def test_a_hanging_sync_times_out() -> None:
    async def sync(timeout: float) -> Positions:
        await asyncio.Event().wait()
        raise AssertionError

    assert prove(sync, read_mine, round_timeout=0.02).outcome is Outcome.TIMED_OUT


def test_the_record_is_read_after_the_sync_has_answered() -> None:
    """A read sent before the answer could see the record as it was before a take-over."""
    order: list[str] = []

    async def sync(timeout: float) -> Positions:
        order.append("sync begins")
        await asyncio.sleep(0)
        order.append("sync ends")
        return Positions(1, 1)

    async def read() -> OwnerRecord | None:
        order.append("read")
        return mine()

    prove(sync, read)
    assert order == ["sync begins", "sync ends", "read"]


def test_one_round_in_flight_and_the_next_covers_all_who_wait() -> None:
    async def run() -> tuple[list[Round], int, int]:
        gate = asyncio.Event()
        running = most = 0

        async def sync(timeout: float) -> Positions:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await gate.wait()
            running -= 1
            return Positions(1, 1)

        barrier = GroupBarrier(sync, read_mine, ME, 1)
        first = asyncio.create_task(barrier.prove())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        # These commits may have come after the first round's sync began: it does not cover them.
        later = [asyncio.create_task(barrier.prove()) for _ in range(50)]
        await asyncio.sleep(0)
        gate.set()
        results = await asyncio.gather(first, *later)
        return results, barrier.rounds, most

    results, rounds, most = asyncio.run(run())
    assert {result.outcome for result in results} == {Outcome.DURABLE}
    assert (rounds, most) == (2, 1)


def test_closing_ends_waiters_as_unknown() -> None:
    async def run() -> list[Round]:
        async def sync(timeout: float) -> Positions:
            await asyncio.Event().wait()
            raise AssertionError

        barrier = GroupBarrier(sync, read_mine, ME, 1)
        waiting = [asyncio.create_task(barrier.prove()) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        late = asyncio.create_task(barrier.prove())
        await asyncio.sleep(0)
        await barrier.close()
        return [*await asyncio.gather(*waiting, late), await barrier.prove()]

    assert {result.outcome for result in asyncio.run(run())} == {Outcome.UNKNOWN}
