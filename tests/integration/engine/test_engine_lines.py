"""What code logs: whose it is, never twice, and never for what is lost again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node import RetryPolicy, activity, workflow
from node.engine.events import Kind
from node.engine.lines import FIELDS
from tests.integration.engine import four_ways, logging_scenario
from tests.integration.engine.harness import (
    Proves,
    application,
    engine,
    go,
    killed_after_each_commit,
    until,
)
from tests.integration.engine.lives import Life, forks

SCENARIO = "tests.integration.engine.logging_scenario"
log = logging.getLogger("shop")
MODES: list[dict[str, Any]] = [
    {},
    {"forced_replay": True},
    {"durability": "every_commit"},
]


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    kept: list[logging.LogRecord] = []

    class Keeps(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(record)

    root, keeps = logging.getLogger(), Keeps()
    level = root.level
    root.setLevel(logging.INFO)
    root.addHandler(keeps)
    yield kept
    root.removeHandler(keeps)
    root.setLevel(level)


def about(record: logging.LogRecord) -> tuple[object, ...]:
    return tuple(vars(record)[name] for name in FIELDS)


def said(records: list[logging.LogRecord]) -> list[str]:
    return [record.getMessage() for record in records if record.name in ("shop", "workflow")]


@pytest.mark.parametrize("mode", MODES)
def test_a_record_says_whose_it_is_and_is_there_once(
    tmp_path: Path, records: list[logging.LogRecord], mode: dict[str, Any]
) -> None:
    @activity(retry=RetryPolicy(initial=0.001))
    async def fetch() -> None:
        activity.logger.info("fetching")
        if activity.info().attempt == 1:
            raise ValueError("not yet")

    @activity
    def on_a_thread() -> None:
        log.info("on a thread")

    @activity(transactional=True)
    def inside() -> None:
        log.info("in the transaction")

    @workflow
    async def work() -> None:
        things = ["a"]
        workflow.logger.info("it has %s", things, extra={"colour": "red"})
        things.append("b")
        await fetch()
        await on_a_thread()
        await inside()
        try:
            raise KeyError("lost")
        except KeyError:
            log.exception("caught")
        await workflow.receive("go")
        log.info("done")

    app = application(fetch, on_a_thread, inside, work)

    async def test() -> None:
        async with engine(tmp_path, app, barrier=Proves(), epoch=7, **mode) as it:
            await it.start("work", {}, id="a")
            await until(lambda: any(r.getMessage() == "caught" for r in records))
        async with engine(tmp_path, app, barrier=Proves(), epoch=8, **mode) as it:
            await it.signal("a", "go")
            await it.result("a", wait=10)

    go(test())
    ours = [r for r in records if r.name in ("shop", "workflow", "activity")]
    acme = ("acme", 7, "a", "work")
    assert [(r.getMessage(), about(r)) for r in ours] == [
        ("it has ['a']", (*acme, None, None, None)),
        ("fetching", (*acme, "fetch", 1, 1)),
        ("fetching", (*acme, "fetch", 1, 2)),
        ("on a thread", (*acme, "on_a_thread", 1, 1)),
        ("in the transaction", (*acme, "inside", 1, 1)),
        ("caught", (*acme, None, None, None)),
        ("done", ("acme", 8, "a", "work", None, None, None)),
    ]
    assert vars(ours[0])["colour"] == "red"
    assert "KeyError: 'lost'" in str(ours[5].exc_text)


def test_a_line_waits_for_the_commit_and_is_lost_with_it(
    tmp_path: Path, records: list[logging.LogRecord]
) -> None:
    ran = 0

    @workflow
    async def work() -> None:
        nonlocal ran
        ran += 1
        log.info("begun")
        await workflow.receive("go")

    app = application(work)

    async def test() -> None:
        one = engine(tmp_path, app)
        await one.open()
        starting = asyncio.create_task(one.start("work", {}, id="a"))
        await asyncio.sleep(0)
        assert ran == 1
        assert said(records) == []
        one.cut_off()
        await asyncio.gather(starting, return_exceptions=True)
        await one.close()
        async with engine(tmp_path, app) as it:
            await it.start("work", {}, id="a")
            await until(lambda: bool(said(records)))
        assert ran == 2

    go(test())
    assert said(records) == ["begun"]


def test_coroutines_that_are_let_go_and_copies_say_nothing(
    tmp_path: Path, records: list[logging.LogRecord]
) -> None:
    @workflow
    async def work() -> None:
        @workflow.query
        def state() -> int:
            log.info("asked")
            return 1

        log.info("begun")
        try:
            await workflow.receive("go")
        finally:
            log.info("over")

    async def test() -> None:
        async with engine(tmp_path, application(work)) as it:
            await it.start("work", {}, id="a")
            await it.query("a", "state", {})
            assert said(records) == ["begun", "asked"]
            await it.control.terminate("a")
            await it.query("a", "state", {})

    go(test())
    assert said(records) == ["begun", "asked", "asked"]


def test_a_handler_may_do_what_a_workflow_may_not(tmp_path: Path) -> None:
    class Opens(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            with (tmp_path / "lines").open("a") as file:
                file.write(record.getMessage() + "\n")

    handler = Opens()
    shop = logging.getLogger("shop.file")
    shop.setLevel(logging.INFO)
    shop.addHandler(handler)

    @workflow
    async def work() -> None:
        shop.info("a line")

    async def test() -> None:
        async with engine(tmp_path, application(work)) as it:
            await it.start("work", {}, id="a")
            await it.result("a", wait=10)
            assert it.events("a")[-1].kind is Kind.COMPLETED

    try:
        go(test())
    finally:
        shop.removeHandler(handler)
    assert (tmp_path / "lines").read_text() == "a line\n"


def test_what_the_engine_says_of_an_execution_names_it(
    tmp_path: Path, records: list[logging.LogRecord]
) -> None:
    @workflow
    async def work() -> None:
        await workflow.receive("go")

    @workflow
    async def other() -> None: ...

    async def test() -> None:
        async with engine(tmp_path, application(work)) as it:
            await it.start("work", {}, id="a")
        async with engine(tmp_path, application(other)):
            pass

    go(test())
    (record,) = [record for record in records if record.levelno == logging.ERROR]
    assert about(record) == ("acme", 1, "a", "work", None, None, None)


def test_uninterrupted_every_line_is_there(tmp_path: Path) -> None:
    for mode in ("cached", "forced", "every_commit"):
        folder = tmp_path / mode
        folder.mkdir()
        life = Life(folder / "log.db", folder / "ledger", SCENARIO, 0, mode)
        assert forks().live(life).status == 0
        four_ways.check(folder, SCENARIO)
        assert len(logging_scenario.lines(folder / "ledger")) == logging_scenario.LINES


@pytest.mark.parametrize("mode", ["cached", "every_commit"])
def test_killed_at_each_commit_no_line_comes_twice(tmp_path: Path, mode: str) -> None:
    assert killed_after_each_commit(tmp_path, SCENARIO, mode, commits=2) > 3
    four_ways.check(tmp_path, SCENARIO)
    assert len(logging_scenario.lines(tmp_path / "ledger")) > 3
