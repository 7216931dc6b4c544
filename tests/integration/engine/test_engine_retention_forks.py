"""Removal beside forks, labels and lists: what went is not found, the rest holds together."""

from __future__ import annotations

import asyncio
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from node import Retention, activity, workflow
from node.engine import schema
from node.engine.archive import replay_archive
from node.engine.errors import ForkRefused
from node.engine.events import Kind, Status
from node.engine.forked import ForkMode
from node.engine.inspection import inspect_log
from node.engine.removal import Limits
from node.engine.selection import Selection
from tests.integration.engine.harness import application, engine, go

NOTHING = timedelta()
LIMITS = [Limits(), Limits(events=3), Limits(seconds=0)]


@activity(version=1)
async def step(word: str) -> str:
    return word


@workflow
async def work(words: list[str]) -> list[str]:
    return [await step(word) for word in words]


@workflow
async def goes_on(left: int) -> int:
    await step("on")
    if left:
        workflow.continue_as_new(left - 1)
    await workflow.receive("go")
    return left


APP = application(step, work, goes_on, Retention(history=NOTHING))
KEPT = application(step, work, goes_on)


@pytest.mark.parametrize("limits", LIMITS)
def test_a_fork_outlives_what_it_was_made_from_and_goes_by_itself(
    tmp_path: Path, limits: Limits
) -> None:
    async def test() -> None:
        async with engine(tmp_path, KEPT) as it:
            it.retention._limits = limits
            await it.start("work", {"words": ["a", "b", "c"]}, id="one")
            result = (await it.result("one", wait=20)).result
            await it.fork("one", at="step#2", new_id="exact")
            await it.fork("one", mode=ForkMode.REUSE, new_id="reuse")
            for id in ("exact", "reuse"):
                assert (await it.result(id, wait=20)).result == result
            await it.retention.delete("one")
            for id in ("exact", "reuse"):
                assert it.execution(id).forked_from["id"] == "one"  # type: ignore[index]
                assert replay_archive(it.export(id), KEPT).ok
            again = await it.fork("exact", at="step#3", new_id="again")
            assert (await it.result(again.view.id, wait=20)).result == result
        inspect_log(tmp_path / "log.db")
        async with engine(tmp_path, KEPT) as it:
            it.retention._limits = limits
            for id in ("exact", "reuse", "again"):
                await it.retention.delete(id)
            assert not any(it.counts.values())
        inspect_log(tmp_path / "log.db")

    go(test())


@pytest.mark.parametrize("limits", LIMITS)
def test_the_histories_of_a_fork_go(tmp_path: Path, limits: Limits) -> None:
    async def test() -> None:
        async with engine(tmp_path, APP) as it:
            it.retention._limits = limits
            await it.start("goes_on", {"left": 2}, id="one")
            async with asyncio.timeout(20):
                while sum(e.kind is Kind.CONTINUED for e in it.events("one")) < 2:
                    await asyncio.sleep(0.01)
            first = next(e.sequence for e in it.events("one") if e.kind is Kind.STEP_COMPLETED)
            try:
                await it.fork("one", at=first, new_id="two")
            except ForkRefused:
                # Of a superseded history nothing is forked; then from where it stands.
                await it.fork("one", new_id="two")
            await it.signal("two", "go")
            await it.result("two", wait=20)
            await it.signal("one", "go")
            await it.result("one", wait=20)
            done = await it.retention.run()
            assert done.trouble is None
            assert done.histories >= 1
            assert it.execution("two").status is Status.COMPLETED
            assert it.execution("two").forked_from["id"] == "one"  # type: ignore[index]
        inspect_log(tmp_path / "log.db")
        async with engine(tmp_path, APP) as it:
            # What was superseded is gone, and whoever asks for it is told so.
            with pytest.raises(ForkRefused):
                await it.fork("one", at=first, new_id="three")
            made = await it.fork("one", mode=ForkMode.REUSE, new_id="three")
            assert made.created
        inspect_log(tmp_path / "log.db")

    go(test())


def test_a_fork_that_continues_loses_what_it_began_with(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, APP) as it:
            await it.start("goes_on", {"left": 0}, id="one")
            await it.fork("one", mode=ForkMode.REUSE, input={"left": 2}, new_id="two")
            async with asyncio.timeout(20):
                while sum(e.kind is Kind.CONTINUED for e in it.events("two")) < 2:
                    await asyncio.sleep(0.01)
            assert (await it.retention.run()).trouble is None
            kinds = [event.kind for event in it.events("two")]
            assert (kinds[0], kinds.count(Kind.CONTINUED)) == (Kind.FORKED, 1)
        inspect_log(tmp_path / "log.db")
        async with engine(tmp_path, APP) as it:
            await it.signal("two", "go")
            assert (await it.result("two", wait=20)).result == 0
            assert it.execution("two").forked_from["id"] == "one"  # type: ignore[index]
        inspect_log(tmp_path / "log.db")

    go(test())


@pytest.mark.parametrize("limits", LIMITS)
def test_labels_and_lists_forget_at_once(tmp_path: Path, limits: Limits) -> None:
    def labels() -> int:
        with closing(schema.connect(tmp_path / "log.db")) as db:
            rows: list[Any] = db.execute("SELECT count(*) FROM litefleet_label").fetchall()
        return int(rows[0][0])

    async def test() -> None:
        async with engine(tmp_path, KEPT) as it:
            it.retention._limits = limits
            for id in ("a", "b"):
                await it.start("work", {"words": [id] * 5}, id=id, labels={"customer": "acme"})
                await it.result(id, wait=20)
            acme = Selection(labels=(("customer", "acme"),))
            assert len((await it.find(acme))[0]) == 2
            await it.retention.delete("a")
            assert [one.id for one in (await it.find(acme))[0]] == ["b"]
            assert [one.id for one in (await it.find(Selection()))[0]] == ["b"]
        assert labels() == 1
        inspect_log(tmp_path / "log.db")

    go(test())


def test_labels_that_are_left_behind_are_noticed(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, KEPT) as it:
            await it.start("work", {"words": []}, id="a", labels={"customer": "acme"})
            await it.result("a", wait=20)
            await it.retention.delete("a")
        inspect_log(tmp_path / "log.db")
        with closing(schema.connect(tmp_path / "log.db")) as db:
            db.execute("INSERT INTO litefleet_label VALUES (1, 'customer', 'acme')")
        with pytest.raises(Exception, match="has labels, and is missing"):
            inspect_log(tmp_path / "log.db")

    go(test())
