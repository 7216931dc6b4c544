"""A copy of a log that becomes another tenant's: held, under new keys, and followed by its code."""

from __future__ import annotations

import shutil
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fleet.replay import replay_files
from node import Queue, Schedule, activity, workflow
from node.engine.archive import replay_archive
from node.engine.engine import Engine, EngineConfig
from node.engine.errors import LogRefused
from node.engine.events import Kind
from node.engine.inspection import events_of, inspect_log
from node.engine.parting import part
from node.engine.upgrade import check_upgrade
from tests.integration.engine.harness import application, go, until

keys: list[str] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    keys.clear()
    handed.clear()


handed: list[str] = []


@activity
async def hand_on(token: str) -> None:
    handed.append(token)


@activity
async def step(name: str) -> str:
    keys.append(activity.info().idempotency_key)
    return f"{name}!"


@workflow
async def work() -> list[str]:
    """What it does next depends on what it was given by chance."""
    found = [str(workflow.uuid4()), await step("a")]
    found.append(await step("even" if workflow.random().random() < 0.5 else "odd"))
    found.append(workflow.info().tenant)
    await workflow.receive("go")
    found += [str(workflow.uuid4()), await step("b")]
    return found


@workflow(queue=Queue("line", concurrency=1))
async def queued() -> str:
    await workflow.receive("go")
    return await step("queued")


@workflow
async def tick() -> None:
    await step("tick")


@workflow
async def approved() -> str:
    event = workflow.external("approval", str)
    await hand_on(event.token)
    return await event


APP = application(
    step,
    hand_on,
    work,
    approved,
    queued,
    tick,
    Schedule("often", tick, every=timedelta(hours=1)),
)


def engine(path: Path, tenant: str, lineage: str, **more: Any) -> Engine:
    return Engine(
        EngineConfig(
            path=path,
            application=APP,
            tenant=tenant,
            lineage=lineage,
            create=not path.exists(),
            **more,
        )
    )


def now() -> int:
    return int(time.time() * 1000)


async def made(folder: Path) -> Path:
    """A log in the middle of its work, closed."""
    path = folder / "source.db"
    source = engine(path, "acme", "first")
    await source.open()
    for n in range(8):
        await source.start("work", {}, id=f"work-{n}")
    await source.start("queued", {}, id="first-in-line")
    await source.start("queued", {}, id="second-in-line")
    await source.start("work", {}, id="paused")
    await until(lambda: len(keys) >= 18)
    await source.control.pause("paused", "by hand")
    await source.close()
    return path


def copied(path: Path, name: str) -> Path:
    into = path.with_name(name)
    shutil.copy(path, into)
    wal = path.with_name(path.name + "-wal")
    if wal.exists():
        shutil.copy(wal, into.with_name(into.name + "-wal"))
    return into


async def finished(it: Engine, id: str) -> list[str]:
    await it.signal(id, "go")
    found = await it.result(id, wait=10)
    assert found.result is not None, found
    result: list[str] = found.result
    return result


def test_what_was_open_is_held_and_then_goes_on_as_it_began(tmp_path: Path) -> None:
    async def test() -> None:
        path = await made(tmp_path)
        source = inspect_log(path)
        fork = copied(path, "fork.db")
        done = part(fork, tenant="copy", lineage="second", reason="forked from acme", now=now)
        assert (done.executions, done.schedules) == (10, 1)
        assert done.until == source.sequence

        there = inspect_log(fork)
        assert (there.tenant, there.lineage) == ("copy", "second")
        assert check_upgrade(fork, APP).ok
        assert replay_files([fork], APP).failures == []
        before = list(keys)
        it = engine(fork, "copy", "second")
        async with it:
            assert all(one.paused for one in it.executions())
            assert it.schedules.show("often").status == "paused"
            assert it.schedules.show("often").note == "forked from acme"
            archive = it.export("work-0")
            assert (archive.tenant, archive.lineage) == ("acme", "first")
            assert replay_archive(archive, APP).divergence is None
            assert keys == before
            await it.signal("first-in-line", "go")
            assert keys == before

            for n in range(8):
                assert await it.control.resume(f"work-{n}")
                found = await finished(it, f"work-{n}")
                # What its code is told of itself has not changed in the middle.
                assert found[3] == "acme"
            # Later calls have other keys than the source would use for the very same ones.
            late = keys[len(before) :]
            await it.start("work", {}, id="new")
            found = await finished(it, "new")
            assert found[3] == "copy"
            # One that has the id of the source's, and was begun here.
        async with engine(path, "acme", "first") as it:
            keys.clear()
            for n in range(8):
                await finished(it, f"work-{n}")
            assert len(late) == 8
            assert not set(late) & set(keys)
            await it.start("work", {}, id="new")
            assert (await finished(it, "new"))[0] != found[0]
        # And both are whole.
        assert inspect_log(fork).sequence > done.until
        assert replay_files([fork, path], APP).failures == []

    go(test())


def test_a_token_that_both_have_completes_each_for_itself(tmp_path: Path) -> None:
    """The code was given this very token, and handed it on: with another one it would not follow
    its log. What is said to the fork is not said to the source."""

    async def test() -> None:
        path = tmp_path / "source.db"
        async with engine(path, "acme", "first") as it:
            await it.start("approved", {}, id="order")
            await until(lambda: it.events("order")[-1].kind is Kind.STEP_COMPLETED)
            token = handed[0]
        fork = copied(path, "fork.db")
        part(fork, tenant="copy", lineage="second", reason="x", now=now)
        async with engine(fork, "copy", "second") as it:
            assert await it.complete(token, "by a test")
            assert (await it.result("order", wait=10)).result == "by a test"
        async with engine(path, "acme", "first") as it:
            assert it.execution("order").status == "running"
            assert await it.complete(token, "by the customer")
            assert (await it.result("order", wait=10)).result == "by the customer"
        assert replay_files([fork, path], APP).failures == []

    go(test())


def test_a_fork_of_a_fork(tmp_path: Path) -> None:
    async def test() -> None:
        path = await made(tmp_path)
        first = copied(path, "first.db")
        part(first, tenant="b", lineage="second", reason="x", now=now)
        async with engine(first, "b", "second") as it:
            await it.start("work", {}, id="of-b")
            await until(lambda: it.events("of-b")[-1].kind is Kind.STEP_COMPLETED)
        second = copied(first, "second.db")
        part(second, tenant="c", lineage="third", reason="x", now=now)
        assert replay_files([second], APP).failures == []
        async with engine(second, "c", "third") as it:
            for id, told in (("work-1", "acme"), ("of-b", "b")):
                await it.control.resume(id)
                assert (await finished(it, id))[3] == told
        inspect_log(second)

    go(test())


def test_a_fork_that_forgot_whose_it_was_is_noticed(tmp_path: Path) -> None:
    """The broken twin: with the new name for all that is in it, the log holds together no more,
    and its code would not follow it."""

    async def test() -> None:
        import apsw

        path = await made(tmp_path)
        fork = copied(path, "fork.db")
        part(fork, tenant="copy", lineage="second", reason="x", now=now)
        db = apsw.Connection(str(fork))
        db.execute("UPDATE litefleet_meta SET value = '[]' WHERE key = 'inherited'")
        db.close()
        with pytest.raises(LogRefused, match="beginning"):
            inspect_log(fork)
        assert replay_files([fork], APP).failures != []

    go(test())


def test_a_log_is_not_parted_from_itself(tmp_path: Path) -> None:
    async def test() -> None:
        path = await made(tmp_path)
        count = sum(1 for _ in events_of(copied(path, "counted.db")))
        with pytest.raises(LogRefused, match="already"):
            part(path, tenant="acme", lineage="first", reason="x", now=now)
        assert inspect_log(path).sequence == count

    go(test())
