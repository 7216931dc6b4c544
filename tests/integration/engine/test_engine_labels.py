"""Labels: who may have which, and what becomes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from node import Queue, RetryPolicy, activity, workflow
from node.engine.errors import NotInWorkflow, PayloadError, StateChanged
from node.engine.events import Kind, Reuse
from node.engine.inspection import events_of, inspect_log
from tests.integration.engine.harness import application, engine, go

LINE = Queue("line", concurrency=1)
down = [True]


@activity(retry=RetryPolicy(max_attempts=1))
async def ships() -> None:
    if down[0]:
        raise ConnectionError("no")


@workflow
async def orders(count: int = 0) -> dict[str, str]:
    workflow.label(stage="new", count=str(count))
    await ships()
    workflow.label(stage="shipped")
    await workflow.receive("end")
    if count:
        workflow.continue_as_new(count - 1)
    return workflow.labels()


@workflow
async def wrong(name: str, value: str) -> str:
    try:
        workflow.label(**{name: value})
    except PayloadError as error:
        return str(error)
    return "taken"


@workflow
async def asked() -> None:
    @workflow.query
    def look() -> dict[str, str]:
        return workflow.labels()

    @workflow.query
    def touch() -> None:
        workflow.label(stage="touched")

    await workflow.receive("end")


@workflow(queue=LINE)
async def lined() -> dict[str, str]:
    workflow.label(turn="had")
    await workflow.receive("end")
    return workflow.labels()


@workflow
async def plain() -> None:
    pass


APP = application(ships, orders, wrong, asked, lined, plain, LINE)
GIVEN = {"customer": "acme"}


def test_labels_outlast_a_retry_a_restart_and_a_new_input(tmp_path: Path) -> None:
    async def first() -> None:
        down[0] = True
        async with engine(tmp_path, APP) as it:
            await it.start("orders", {"count": 1}, id="o", labels=GIVEN)
            assert (await it.result("o", wait=10)).error is not None
            assert it.execution("o").labels == {**GIVEN, "stage": "new", "count": "1"}
            down[0] = False
            await it.control.retry("o")

    async def second() -> None:
        async with engine(tmp_path, APP) as it:
            await it.signal("o", "end")
            await it.signal("o", "end")
            view = await it.result("o", wait=10)
            assert view.result == {**GIVEN, "stage": "shipped", "count": "0"}
            assert view.labels == view.result
            # Used again, it has those of its new start.
            await it.start("plain", {}, id="p", labels=GIVEN)
            await it.result("p", wait=10)
            await it.start("plain", {}, id="p", reuse=Reuse.IF_CLOSED)
            assert (await it.result("p", wait=10)).labels == {}

    go(first())
    go(second())
    inspect_log(tmp_path / "log.db")


def test_one_in_a_queue_has_its_labels_from_the_start(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, APP) as it:
            for id in ("a", "b"):
                await it.start("lined", {}, id=id, labels={"who": id})
            assert it.execution("b").labels == {"who": "b"}
            await it.signal("a", "end")
            await it.signal("b", "end")
            assert (await it.result("b", wait=10)).result == {"who": "b", "turn": "had"}

    go(test())
    inspect_log(tmp_path / "log.db")


def test_who_uses_none_has_nothing_of_it_in_the_log(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, APP) as it:
            await it.start("plain", {}, id="p")
            await it.result("p", wait=10)

    go(test())
    assert [event.kind for event in events_of(tmp_path / "log.db")] == [
        Kind.STARTED,
        Kind.COMPLETED,
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [("a b", "x"), ("", "x"), ("a", ""), ("a", "x" * 201), ("a", "x\n"), ("n" * 64, "x")],
)
def test_what_is_no_label_is_refused(tmp_path: Path, name: str, value: str) -> None:
    async def test() -> None:
        async with engine(tmp_path, APP) as it:
            with pytest.raises(PayloadError):
                await it.start("plain", {}, labels={name: value})
            assert it.counts["running"] == 0
            await it.start("wrong", {"name": name, "value": value}, id="w")
            assert "label" in (await it.result("w", wait=10)).result
            with pytest.raises(PayloadError, match="bytes together"):
                await it.start("plain", {}, labels={f"n{n}": "x" * 200 for n in range(11)})

    go(test())


def test_a_query_may_look_at_labels_only(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, APP) as it:
            await it.start("asked", {}, id="a", labels=GIVEN)
            assert (await it.query("a", "look", {})).value == GIVEN
            with pytest.raises(StateChanged):
                await it.query("a", "touch", {})
            await it.signal("a", "end")
            await it.result("a", wait=10)
            assert (await it.query("a", "look", {})).value == GIVEN

    go(test())


def test_outside_of_a_workflow_there_is_nothing_to_label() -> None:
    with pytest.raises(NotInWorkflow):
        workflow.label(stage="new")
    with pytest.raises(PayloadError):
        orders.with_labels(stage="")
