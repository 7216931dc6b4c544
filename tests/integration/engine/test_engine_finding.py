"""Finding executions by what they are, page by page, while others start."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from node import ActivityFailed, Queue, RetryPolicy, activity, workflow
from node.engine import finding, selection
from node.engine.engine import Engine
from node.engine.errors import PayloadError
from node.engine.events import Reuse, Status
from node.engine.schema import connect
from node.engine.selection import Known, Selection
from tests.integration.engine.harness import application, engine, go, until

LINE = Queue("line", concurrency=1)


@activity(retry=RetryPolicy(max_attempts=1))
async def breaks() -> None:
    raise ValueError("broken")


@workflow
async def fine() -> None:
    pass


@workflow
async def fails() -> None:
    await breaks()


@workflow
async def survives() -> None:
    with suppress(ActivityFailed):
        await breaks()


@workflow
async def waits() -> None:
    await workflow.receive("go")


@workflow
async def parent() -> None:
    await fine.with_id("kid").child()
    fails.with_id("stray").detach()


@workflow(queue=LINE)
async def lined() -> None:
    await workflow.receive("go")


APP = application(breaks, fine, fails, survives, waits, parent, lined, LINE)


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


async def fill(it: Engine, clock: Clock) -> None:
    """Two of each, a minute apart; and a parent with its children."""
    for round in (1, 2):
        for name in ("fine", "fails", "survives", "waits", "lined"):
            labels = {"round": str(round), "customer": "acme" if name != "fine" else "b&b"}
            await it.start(name, {}, id=f"{name}-{round}", labels=labels)
        clock.now += 60
    await it.start("parent", {}, id="p")
    await it.result("p", wait=10)
    await it.result("stray", wait=10)
    await it.control.cancel("waits-2")
    await until(lambda: it.execution("waits-2").closed_at is not None)


async def ids(it: Engine, **wanted: Any) -> list[str]:
    views, following = await it.find(Selection(**wanted), limit=50)
    assert following is None
    return [view.id for view in views]


def statuses(*names: Status) -> frozenset[Status]:
    return frozenset(names)


def test_each_filter_finds_its_own(tmp_path: Path) -> None:
    async def test() -> None:
        clock = Clock()
        begun = clock.now
        async with engine(tmp_path, APP, clock=clock) as it:
            await fill(it, clock)
            everything = await ids(it)
            assert len(everything) == 13
            failed = ["fails-1", "fails-2", "stray"]
            assert await ids(it, statuses=statuses(Status.FAILED)) == failed
            ended = statuses(Status.FAILED, Status.CANCELLED)
            assert await ids(it, statuses=ended) == ["fails-1", "fails-2", "waits-2", "stray"]
            assert await ids(it, statuses=statuses(Status.RUNNING)) == ["waits-1", "lined-1"]
            assert await ids(it, statuses=statuses(Status.QUEUED)) == ["lined-2"]
            open_ones = statuses(Status.RUNNING, Status.QUEUED, Status.DIVERGED)
            assert await ids(it, statuses=open_ones) == ["waits-1", "lined-1", "lined-2"]
            assert await ids(it, workflows=frozenset({"waits", "parent"})) == [
                "waits-1",
                "waits-2",
                "p",
            ]
            assert await ids(it, prefix="fails-") == ["fails-1", "fails-2"]
            assert await ids(it, prefix="f", labels=(("round", "2"),)) == ["fine-2", "fails-2"]
            both = (("round", "1"), ("customer", "b&b"))
            assert await ids(it, labels=both) == ["fine-1"]
            assert await ids(it, parent="p") == ["kid", "stray"]
            assert await ids(it, parent="none") == []
            assert await ids(it, queue="line") == ["lined-1", "lined-2"]
            assert await ids(it, version="7") == []
            assert await ids(it, failures=True) == [
                "fails-1",
                "survives-1",
                "fails-2",
                "survives-2",
                "stray",
            ]
            assert len(await ids(it, failures=False)) == 8
            assert len(await ids(it, started_before=begun + 60)) == 5
            assert len(await ids(it, started_after=begun + 60)) == 8
            assert await ids(it, closed_after=begun + 120) == ["waits-2", "p", "kid", "stray"]
            assert len(await ids(it, closed_before=begun + 60)) == 3
            # An id that is used again has a new start, and its old place.
            await it.start("fine", {}, id="fine-1", reuse=Reuse.IF_CLOSED)
            await it.result("fine-1", wait=10)
            assert (await ids(it, started_after=begun + 120))[0] == "fine-1"
            assert await ids(it, labels=both) == []

    go(test())


def test_counts(tmp_path: Path) -> None:
    async def test() -> None:
        clock = Clock()
        async with engine(tmp_path, APP, clock=clock) as it:
            await fill(it, clock)
            found = await it.count(Selection(), ["status"])
            assert {one.status: one.count for one in found} == {
                Status.COMPLETED: 6,
                Status.FAILED: 3,
                Status.CANCELLED: 1,
                Status.RUNNING: 2,
                Status.QUEUED: 1,
            }
            by = {
                (one.workflow, one.status): one.count
                for one in await it.count(
                    Selection(labels=(("customer", "acme"),)), ["workflow", "status"]
                )
            }
            assert by["lined", Status.QUEUED] == by["lined", Status.RUNNING] == 1
            assert [one.count for one in await it.count(Selection(), [])] == [13]

    go(test())


@pytest.mark.parametrize("order", ["oldest", "newest"])
def test_pages_hold_still_while_others_start(tmp_path: Path, order: Any) -> None:
    async def test() -> None:
        async with engine(tmp_path, APP) as it:
            for n in range(7):
                await it.start("fine", {}, id=f"f{n}")
            seen: list[str] = []
            after = None
            for n in range(10):
                views, after = await it.find(Selection(), order=order, after=after, limit=3)
                seen += [view.id for view in views]
                if after is None:
                    break
                if order == "newest" or n < 1:
                    await it.start("fine", {}, id=f"new-{n}")
            expected = [f"f{n}" for n in range(7)]
            if order == "newest":
                assert seen == expected[::-1]
            else:
                assert seen == [*expected, "new-0"]

    go(test())


def test_a_place_that_is_none_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, APP) as it:
            for text in ("", "x1", "o-1", "o" + "9" * 30):
                with pytest.raises(PayloadError, match="no place"):
                    await it.find(Selection(), after=text)
            await it.start("fine", {}, id="f")
            # As it was before there were two orders.
            assert [view.id for view in (await it.find(Selection(), after="0"))[0]] == ["f"]
            assert (await it.find(Selection(), after="1")) == ([], None)

    go(test())


def test_a_long_search_goes_on_from_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each page looks at few executions; none is missed and none comes twice."""
    monkeypatch.setattr(finding, "SPAN", 2)

    async def fill_line() -> None:
        async with engine(tmp_path, APP) as it:
            for n in range(9):
                await it.start("lined" if n % 4 == 0 else "fine", {}, id=f"e{n}")
            await asyncio.sleep(0)

    go(fill_line())
    times = iter(range(1_000))
    db = connect(tmp_path / "log.db")
    for order, wanted in (("oldest", ["e0", "e4", "e8"]), ("newest", ["e8", "e4", "e0"])):
        seen: list[str] = []
        after, pages = None, 0
        while True:
            found = finding.page(
                db,
                Selection(queue="line"),
                Known(),
                order=order,  # type: ignore[arg-type]
                after=after,
                limit=2,
                timer=lambda: next(times),
            )
            seen += [one.id for one in found.items]
            after, pages = found.next, pages + 1
            if after is None:
                break
        assert seen == wanted
        assert pages > 2
    db.close()


def test_what_is_rare_is_found_by_an_index(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, APP) as it:
            await it.start("fails", {}, id="a", labels={"customer": "acme"})

    go(test())
    db = connect(tmp_path / "log.db")

    def plan(**wanted: Any) -> str:
        found = selection.where(Selection(system=True, **wanted), Known())
        sql = f"EXPLAIN QUERY PLAN SELECT x.id FROM litefleet_execution x WHERE {found.sql}"
        rows: Iterable[Any] = db.execute(sql, found.values).fetchall()
        return " ".join(row[3] for row in rows)

    assert "litefleet_unhappy" in plan(statuses=statuses(Status.FAILED))
    assert "litefleet_open" in plan(
        statuses=statuses(Status.RUNNING, Status.QUEUED, Status.DIVERGED, Status.PARKED)
    )
    assert "litefleet_open" in plan(statuses=statuses(Status.RUNNING))
    assert "litefleet_labelled" in plan(labels=(("customer", "acme"),))
    assert "litefleet_failure" in plan(failures=True)
    assert "(key>? AND key<?)" in plan(prefix="a")
    rows: Any = db.execute("EXPLAIN QUERY PLAN SELECT * FROM failures").fetchall()
    assert "litefleet_failure" in rows[0][3]
    db.close()
