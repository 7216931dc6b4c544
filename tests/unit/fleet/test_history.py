"""The record of operations: added to, never changed, and read back as it was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import apsw
import pytest
from starlette.requests import Request

from fleet.cli.history import epochs, hosts, line
from fleet.coordinator import history_log
from fleet.coordinator.asking import Asked, asked, note_asker
from fleet.coordinator.history import MOST_WAITING, History, MemoryRecords, NotRecorded
from fleet.coordinator.history_log import Wanted
from fleet.history_views import OperationStep, OperationView


def operation(n: int, **fields: object) -> OperationView:
    told = {"id": f"o-{n}", "kind": "drill", "by": "coordinator", "began_at": n, "ended_at": n + 1}
    return OperationView.model_validate(told | fields)


def opened() -> apsw.Connection:
    db = apsw.Connection(":memory:")
    history_log.prepare(db)
    return db


def ids(found: Sequence[OperationView]) -> list[str]:
    return [one.id for one in found]


def test_it_gives_back_what_it_was_given() -> None:
    db = opened()
    one = operation(
        1,
        kind="failover",
        tenant="acme",
        why="host lost",
        epoch_before=1,
        epoch_after=2,
        from_host="a",
        to_host="b",
        steps=[OperationStep(name="claim", seconds=0.5)],
        outcome="failed",
        error="no",
        data={"x": [1]},
    )
    history_log.append(db, [one])
    [found] = history_log.read(db, Wanted())
    assert found == one.model_copy(update={"n": 1})


def test_an_operation_that_is_told_twice_is_recorded_once() -> None:
    db = opened()
    history_log.append(db, [operation(1)])
    history_log.append(db, [operation(1, outcome="failed"), operation(2)])
    found = history_log.read(db, Wanted())
    assert ids(found) == ["o-1", "o-2"]
    assert found[0].outcome == "done"


@pytest.mark.parametrize("statement", ["DELETE FROM history", "UPDATE history SET kind = 'x'"])
def test_what_is_recorded_stands(statement: str) -> None:
    db = opened()
    history_log.append(db, [operation(1)])
    with pytest.raises(apsw.ConstraintError, match="only added to"):
        db.execute(statement)


def test_it_is_read_by_tenant_kind_time_and_page() -> None:
    db = opened()
    some = [operation(n, tenant="ab"[n % 2], kind=["drill", "copy"][n % 3 == 0]) for n in range(8)]
    history_log.append(db, some)
    assert ids(history_log.read(db, Wanted(tenant="a"))) == ["o-0", "o-2", "o-4", "o-6"]
    assert ids(history_log.read(db, Wanted(tenant="a", kind="copy"))) == ["o-0", "o-6"]
    assert ids(history_log.read(db, Wanted(since=7.0))) == ["o-6", "o-7"]
    assert ids(history_log.read(db, Wanted(limit=2))) == ["o-0", "o-1"]
    assert ids(history_log.read(db, Wanted(limit=2, after=2))) == ["o-2", "o-3"]
    assert ids(history_log.read(db, Wanted(limit=2, newest=True))) == ["o-6", "o-7"]


def test_a_file_without_the_table_has_no_history() -> None:
    assert history_log.read(apsw.Connection(":memory:"), Wanted()) == []


def test_what_was_noted_is_read_back() -> None:
    async def noted() -> list[OperationView]:
        history = History()
        history.note("drill", tenant="acme", steps={"fetch": 1.0, "verify": 0.5})
        return await history.read(Wanted())

    [found] = asyncio.run(noted())
    assert (found.kind, found.tenant, found.by, found.outcome) == (
        "drill",
        "acme",
        "coordinator",
        "done",
    )
    assert [step.name for step in found.steps] == ["fetch", "verify"]
    assert found.seconds == pytest.approx(1.5)


class Failing(MemoryRecords):
    """Cannot be written while ``broken``."""

    broken = True

    async def append(self, operations: Sequence[OperationView]) -> None:
        if self.broken:
            raise NotRecorded("no")
        await super().append(operations)


def test_what_cannot_be_written_waits() -> None:
    async def whole() -> None:
        records = Failing()
        history = History(records)
        history.note("drill", id="one")
        assert await history.read(Wanted()) == []
        assert history.waiting == 1
        records.broken = False
        history.note("drill", id="two")
        assert ids(await history.read(Wanted())) == ["one", "two"]
        assert history.waiting == 0

    asyncio.run(whole())


def test_what_waits_is_bounded_and_what_is_lost_is_counted() -> None:
    async def whole() -> None:
        history = History(Failing())
        for _ in range(MOST_WAITING + 3):
            history.note("drill")
        assert (history.waiting, history.lost) == (MOST_WAITING, 3)

    asyncio.run(whole())


def test_a_block_is_recorded_with_its_steps_and_its_end() -> None:
    async def whole() -> None:
        history = History()
        async with history.operation("move", tenant="acme", id="m-1", why="full") as move:
            move.step("drain")
            move.epoch_before, move.epoch_after = 1, 2
            move.from_host, move.to_host = "a", "b"
        with pytest.raises(RuntimeError):
            await full(history)
        good, bad = await history.read(Wanted())
        assert (good.why, good.outcome, good.epoch_after, good.to_host) == ("full", "done", 2, "b")
        assert [step.name for step in good.steps] == ["drain"]
        assert (bad.outcome, bad.error) == ("failed", "RuntimeError: no room")

    asyncio.run(whole())


async def full(history: History) -> None:
    async with history.operation("move", tenant="acme", id="m-2") as move:
        move.step("drain")
        raise RuntimeError("no room")


def test_whoever_asked_is_named() -> None:
    def request(**headers: str) -> Request:
        raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        return Request({"type": "http", "headers": raw})

    async def asking(**headers: str) -> Asked:
        note_asker(request(**headers))
        return await asyncio.create_task(inside())

    async def inside() -> Asked:
        return asked()

    assert asked() == Asked("coordinator", "")
    found = asyncio.run(asking(litefleet_by="ada@laptop", litefleet_why="ticket%207"))
    assert found == Asked("ada@laptop", "ticket 7")
    assert asyncio.run(asking()).by == "somebody with the token"
    assert len(asyncio.run(asking(litefleet_by="x" * 1000)).by) == 200


def test_it_is_told_in_words() -> None:
    one = operation(
        0,
        kind="failover",
        tenant="acme",
        from_host="a",
        to_host="b",
        epoch_before=1,
        epoch_after=2,
        why="host lost",
        steps=[{"name": "claim", "seconds": 0.5}],
    )
    assert (hosts(one), epochs(one)) == ("a → b", "1 → 2")
    assert line(one) == (
        "1970-01-01 00:00:01+00:00  failover  acme  a → b  1 → 2  [claim 0.50 s]"
        "  by coordinator (host lost)  done"
    )
    same = operation(0, from_host="a", to_host="a", epoch_after=1, outcome="failed", error="no")
    assert (hosts(same), epochs(same)) == ("a", "1")
    assert line(same).endswith("failed: no")
