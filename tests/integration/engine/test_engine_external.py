"""Tokens, patches, waiting, archives and replays."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from node import RetryPolicy, activity, workflow
from node.engine.archive import Archive, replay, replay_archive
from node.engine.durability import Durability
from node.engine.errors import ExecutionClosed, PayloadError, UnknownToken, UnknownWorkflow
from node.engine.events import Kind, Status
from node.engine.inspection import events_of, inspect_log
from tests.integration.engine.harness import (
    Proves,
    application,
    engine,
    go,
    until,
)

MODES = [{}, {"forced_replay": True}, {"durability": Durability.EVERY_COMMIT}]


@activity
async def double(number: int) -> int:
    return 2 * number


@pytest.mark.parametrize("mode", MODES)
def test_a_token_completes_its_event_once(tmp_path: Path, mode: Any) -> None:
    tokens: list[str] = []

    @activity
    async def ask(token: str) -> None:
        tokens.append(token)

    @workflow
    async def approval() -> int:
        event = workflow.external("approved", int)
        await ask(event.token)
        value = await event
        await workflow.receive("end")
        return value

    app = application(ask, approval)

    async def test() -> None:
        async with engine(tmp_path, app, barrier=Proves(), **mode) as it:
            await it.start("approval", {}, id="a")
            await until(lambda: bool(tokens))
            with pytest.raises(PayloadError):
                await it.complete(tokens[0], "maybe")
            for bad in ("", "x", "å", tokens[0][:-4] + "AAAA", tokens[0] + "A"):
                with pytest.raises(UnknownToken):
                    await it.complete(bad, 1)
        async with engine(tmp_path, app, barrier=Proves(), **mode) as it:
            both = await asyncio.gather(*(it.complete(tokens[0], n) for n in (5, 6)))
            assert sorted(both) == [False, True]
            assert not await it.complete(tokens[0], 7)
            await it.signal("a", "end")
            assert (await it.result("a", wait=10)).result == 5
            assert not await it.complete(tokens[0], 7)

    go(test())
    inspect_log(tmp_path / "log.db")


def test_a_token_that_nobody_waits_for_is_refused(tmp_path: Path) -> None:
    tokens: list[str] = []

    @activity
    async def ask(token: str) -> None:
        tokens.append(token)

    @workflow
    async def impatient() -> None:
        event = workflow.external("approved")
        await ask(event.token)
        try:
            async with asyncio.timeout(0.001):
                await event
        except TimeoutError:
            await workflow.receive("end")

    async def test() -> None:
        async with engine(tmp_path, application(ask, impatient)) as it:
            await it.start("impatient", {}, id="a")
            await until(lambda: Kind.EXTERNAL_CANCELLED in [event.kind for event in it.events("a")])
            with pytest.raises(ExecutionClosed, match="nothing waits"):
                await it.complete(tokens[0], 1)

    go(test())
    inspect_log(tmp_path / "log.db")


@pytest.mark.parametrize("forced", [False, True])
def test_a_patch_leaves_old_executions_on_the_old_path(tmp_path: Path, forced: bool) -> None:
    @workflow(name="job")
    async def old() -> list[object]:
        await workflow.receive("one")
        found = [await double(1)]
        await workflow.receive("two")
        return [*found, "old"]

    @workflow(name="job")
    async def new() -> list[object]:
        await workflow.receive("one")
        found = [await double(100)] if workflow.patched("bigger") else [await double(1)]
        await workflow.receive("two")
        return [*found, "new" if workflow.patched("bigger") else "old"]

    @workflow(name="job")
    async def newest() -> list[object]:
        await workflow.receive("one")
        found = [await double(100)]
        await workflow.receive("two")
        return [*found, "newest"]

    async def begin() -> None:
        async with engine(tmp_path, application(double, old), forced_replay=forced) as it:
            for id in ("before", "after"):
                await it.start("job", {}, id=id)
            await it.signal("before", "one")
            await until(lambda: it.events("before")[-1].kind is Kind.STEP_COMPLETED)

    async def patch() -> None:
        app = application(double, new)
        async with engine(tmp_path, app, forced_replay=forced) as it:
            # This one had not got there when the code changed.
            await it.signal("after", "one")
            await it.start("job", {}, id="fresh")
            await it.signal("fresh", "one")
            for id in ("after", "fresh"):
                await until(lambda id=id: it.events(id)[-1].kind is Kind.STEP_COMPLETED)  # type: ignore[misc]
        async with engine(tmp_path, app, forced_replay=forced) as it:
            for id, result in (("before", [2, "old"]), ("after", [200, "new"])):
                await it.signal(id, "two")
                assert (await it.result(id, wait=10)).result == result

    async def drop() -> None:
        # The old path and the call are gone; what took the new path goes on.
        async with engine(tmp_path, application(double, newest), forced_replay=forced) as it:
            await it.signal("fresh", "two")
            assert (await it.result("fresh", wait=10)).result == [200, "newest"]

    go(begin())
    go(patch())
    go(drop())
    inspect_log(tmp_path / "log.db")


def test_an_archive_replays_elsewhere_and_says_where_code_diverges(tmp_path: Path) -> None:
    @workflow(name="job")
    async def good(n: int) -> list[object]:
        found = [await double(n), workflow.random().random(), str(workflow.uuid4())]
        await double(int(workflow.now().timestamp()))
        event = workflow.external("e")
        await tell(event.token)
        await workflow.sleep(0.001)
        return found

    @activity
    async def tell(token: str) -> None: ...

    @workflow(name="job")
    async def changed(n: int) -> list[object]:
        return [await double(n + 1)]

    @workflow(name="job")
    async def shorter(n: int) -> list[object]:
        return [await double(n)]

    @workflow(name="job")
    async def impure(n: int) -> list[object]:
        return [Path(__file__).read_text()]

    async def test() -> None:
        app = application(double, tell, good)
        async with engine(tmp_path, app) as it:
            await it.start("job", {"n": 4}, id="a")
            await it.result("a", wait=10)
            archive = Archive.read(it.archive("a").model_dump_json())
        done = replay_archive(archive, app)
        assert (done.ok, done.execution, done.events) == (True, "a", len(archive.rows))
        other = replay_archive(archive, application(double, changed)).divergence
        assert other is not None
        assert (other.sequence, other.logged, other.did) == (
            2,
            'step double #1 {"number":4}',
            'step double #1 {"number":5}',
        )
        less = replay_archive(archive, application(double, shorter)).divergence
        assert less is not None
        assert less.sequence == 4
        assert replay_archive(archive, application(impure)).refused is not None
        with pytest.raises(UnknownWorkflow):
            replay_archive(archive, application(no_such))
        # The same from a closed log; and a log without its end is a prefix.
        events = [event for event in events_of(tmp_path / "log.db") if event.execution == "a"]
        for length in range(1, len(events) + 1):
            secret = bytes.fromhex(archive.secret)
            part = replay(events[:length], app, tenant="acme", lineage="line", secret=secret)
            assert part.ok
        for text in ("", "{}", archive.model_dump_json().replace('"version":1', '"version":2')):
            with pytest.raises(PayloadError):
                Archive.read(text)

    go(test())


@workflow
async def no_such() -> None: ...


def test_the_version_is_kept_with_each_execution(tmp_path: Path) -> None:
    @workflow
    async def job() -> int:
        return await double(1)

    async def test() -> None:
        app = application(double, job)
        versioned = type(app)(app.name, app.workflows, app.activities, version="2026-11")
        async with engine(tmp_path, versioned) as it:
            await it.start("job", {}, id="a")
            assert (await it.result("a", wait=10)).result == 2
            assert it.execution("a").version == "2026-11"
            assert '"version":"2026-11"' in str(it.events("a")[1].payload)

    go(test())
    inspect_log(tmp_path / "log.db")


def test_why_is_it_waiting(tmp_path: Path) -> None:
    @activity(retry=RetryPolicy(max_attempts=9, initial=3600, jitter=0))
    async def refused() -> None:
        raise ConnectionError("no answer")

    @activity
    async def endless() -> None:
        activity.heartbeat({"page": 3})
        await asyncio.Event().wait()

    @workflow
    async def child() -> None:
        await workflow.receive("never")

    @workflow
    async def everything() -> None:
        await asyncio.gather(
            refused(),
            endless(),
            workflow.sleep(3600),
            child.with_id("kid").child(),
            workflow.receive("word"),
            workflow.wait_for(lambda: False),
            _external(),
        )

    async def _external() -> None:
        await workflow.external("approved")

    @workflow
    async def stuck() -> None:
        await asyncio.get_running_loop().create_future()

    async def test() -> None:
        app = application(refused, endless, child, everything, stuck)
        async with engine(tmp_path, app) as it:
            await it.start("everything", {}, id="a")
            await it.start("stuck", {}, id="s")
            await until(lambda: any(e.kind is Kind.STEP_RETRY for e in it.events("a")))
            await until(lambda: any(e.kind is Kind.HEARTBEAT for e in it.events("a")))
            waits = {wait.kind + " " + wait.name: wait for wait in it.waiting("a")}
            started = it.execution("a").started_at
            assert all(wait.since == started for wait in waits.values())
            one = waits["activity refused"]
            assert one.until is not None
            assert one.until > started + 50
            assert one.detail["last_error"] == {"type": "ConnectionError", "message": "no answer"}
            assert waits["activity endless"].detail["progress"] == {"page": 3}
            assert waits["timer (timer)"].until == pytest.approx(started + 3600, abs=1)
            assert waits["child child"].detail["id"] == "kid"
            assert "signal word" in waits
            assert "external approved" in waits
            assert any(key.startswith("condition ") and "line" in key for key in waits)
            assert [(wait.kind, wait.name) for wait in it.waiting("s")] == [("asyncio", "future")]
            await it.control.pause("s", "for now")
            assert [wait.kind for wait in it.waiting("s")] == ["pause", "asyncio"]
            await it.control.terminate("s")
            assert it.waiting("s") == []
        async with engine(tmp_path, application(child)) as it:
            assert it.execution("a").status is Status.DIVERGED
            assert [wait.kind for wait in it.waiting("a")] == ["code"]

    go(test())
