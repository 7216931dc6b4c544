"""A real engine on a real file: effects, retries, durability, stopping and going on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import apsw
import pytest

from node import ActivityFailed, RetryPolicy, activity, workflow
from node.engine.application import Application, collect
from node.engine.durability import Durability, Outcome, Proof
from node.engine.engine import Engine, EngineConfig
from node.engine.errors import (
    DurabilityUnavailable,
    EngineStopped,
    ExecutionConflict,
    PayloadError,
    PayloadTooLarge,
    UnknownExecution,
    UnknownWorkflow,
)
from node.engine.events import Kind, Status
from node.engine.inspection import inspect_log


class FakeBarrier:
    """Answers as told, and remembers what it was asked."""

    def __init__(self, *answers: Outcome) -> None:
        self.answers = list(answers)
        self.asked: list[int] = []
        self.open = asyncio.Event()
        self.open.set()
        self.at_once = 0
        self.most_at_once = 0

    async def prove(self, sequence: int) -> Proof:
        self.asked.append(sequence)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.open.wait()
        self.at_once -= 1
        return Proof(self.answers.pop(0) if self.answers else Outcome.DURABLE)


def application(*things: object) -> Application:
    return collect("test", things)


def engine(path: Path, app: Application, **options: Any) -> Engine:
    fields = {"barrier", "authority", "clock", "on_commit", "on_fenced", "on_failed", "random"}
    given = {key: value for key, value in options.items() if key in fields}
    more = {key: value for key, value in options.items() if key not in fields}
    file = path / "log.db"
    config = EngineConfig(
        path=file, application=app, tenant="acme", lineage="line", create=not file.exists(), **more
    )
    return Engine(config, **given)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.002)


def go(test: Awaitable[None]) -> None:
    async def main() -> None:
        await test

    asyncio.run(main())


def summary(path: Path) -> dict[str, int]:
    found = inspect_log(path / "log.db").executions
    assert found.pop("cancelled") == found.pop("terminated") == 0
    return found


# Starting -----------------------------------------------------------------------------------------


@activity
async def double(number: int) -> int:
    return 2 * number


@workflow
async def doubled(number: int, plus: int = 1) -> int:
    return await double(number) + plus


def test_a_start_is_idempotent_by_id(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, application(double, doubled)) as it:
            both = await asyncio.gather(
                *(it.start("doubled", {"number": 4}, id="a") for _ in range(5))
            )
            assert sorted(started.created for started in both) == [False] * 4 + [True]
            assert (await it.result("a", wait=10)).result == 9
            again = await it.start("doubled", {"plus": 1, "number": 4}, id="a")
            assert (again.created, again.view.result) == (False, 9)
            with pytest.raises(ExecutionConflict, match="another input"):
                await it.start("doubled", {"number": 5}, id="a")
            assert it.counts["completed"] == 1

    go(test())
    assert summary(tmp_path) == {"running": 0, "completed": 1, "failed": 0}


def test_what_cannot_be_started_is_refused_and_leaves_no_trace(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, application(double, doubled)) as it:
            with pytest.raises(UnknownWorkflow):
                await it.start("nothing", {})
            for input in ({}, {"number": "x"}, {"number": 1, "other": 2}):
                with pytest.raises(PayloadError):
                    await it.start("doubled", input)
            for id in ("", "a/b", "x" * 201, "a\n"):
                with pytest.raises(PayloadError):
                    await it.start("doubled", {"number": 1}, id=id)
            with pytest.raises(UnknownExecution):
                it.execution("nothing")
            assert it.sequence == 0

    go(test())


@activity
async def large(size: int) -> str:
    return "x" * size


@workflow
async def asks_for_much(size: int) -> str:
    try:
        return f"{len(await large(size))}"
    except ActivityFailed as error:
        return f"{error.type} {error.attempts}"


@workflow
async def returns_much(size: int, text: str = "") -> str:
    return "x" * size


def test_a_payload_that_is_too_large_fails_at_once(tmp_path: Path) -> None:
    async def test() -> None:
        app = application(large, asks_for_much, returns_much)
        async with engine(tmp_path, app, blob_limit=1_500_000) as it:
            await it.start("asks_for_much", {"size": 2_000_000}, id="a")
            assert (await it.result("a", wait=10)).result == "PayloadTooLarge 1"
            await it.start("asks_for_much", {"size": 1_000_000}, id="b")
            assert (await it.result("b", wait=10)).result == "1000000"
            await it.start("returns_much", {"size": 2_000_000}, id="c")
            failed = await it.result("c", wait=10)
            assert failed.error is not None
            assert failed.error["type"] == "PayloadTooLarge"
            with pytest.raises(PayloadTooLarge):
                await it.start("returns_much", {"size": 1, "text": "x" * 2_000_000})

    go(test())


def test_hundreds_at_once(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, application(double, doubled)) as it:
            ids = [f"e{number}" for number in range(300)]
            await asyncio.gather(
                *(it.start("doubled", {"number": n}, id=id) for n, id in enumerate(ids))
            )
            views = await asyncio.gather(*(it.result(id, wait=20) for id in ids))
            assert [view.result for view in views] == [2 * n + 1 for n in range(300)]

    go(test())
    db = apsw.Connection(str(tmp_path / "log.db"), flags=apsw.SQLITE_OPEN_READONLY)
    db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    found: Any = db.execute(
        "SELECT count(*) FROM (SELECT sequence FROM litefleet_commit"
        " UNION ALL SELECT sequence FROM litefleet_event WHERE at IS NOT NULL)"
    ).fetchall()
    db.close()
    # 1,200 events: those that are ready together share a commit.
    assert found[0][0] < 100


# Attempts -----------------------------------------------------------------------------------------


def test_failed_attempts_are_in_the_log_and_count_over_a_restart(tmp_path: Path) -> None:
    seen: list[tuple[int, str]] = []

    @activity(retry=RetryPolicy(max_attempts=3, initial=0.01, jitter=0))
    async def unlucky() -> None:
        info = activity.info()
        seen.append((info.attempt, info.idempotency_key))
        raise ConnectionError("down")

    @activity(retry=RetryPolicy(max_attempts=3, initial=3600, jitter=0))
    async def waits_long() -> None:
        seen.append((activity.info().attempt, activity.info().idempotency_key))
        raise ConnectionError("down")

    @workflow
    async def tries() -> int:
        try:
            await unlucky()
        except ActivityFailed as error:
            if error.type == "ConnectionError":
                await waits_long()
        return 0

    app = application(unlucky, waits_long, tries)

    async def first() -> None:
        async with engine(tmp_path, app) as it:
            await it.start("tries", {}, id="a")
            await until(lambda: [e.kind for e in it.events("a")].count(Kind.STEP_RETRY) == 3)

    async def second() -> None:
        # Another process, much later: the attempt that waited is due, and is the second.
        async with engine(tmp_path, app, clock=lambda: 4_000_000_000.0) as it:
            await until(lambda: len(seen) == 5)
            assert it.execution("a").status is Status.RUNNING

    go(first())
    assert [attempt for attempt, _ in seen] == [1, 2, 3, 1]
    go(second())
    assert [attempt for attempt, _ in seen] == [1, 2, 3, 1, 2]
    assert len({key for _, key in seen[:3]}) == 1
    assert len({key for _, key in seen[3:]}) == 1
    assert len({key for _, key in seen}) == 2


def test_an_attempt_that_a_stop_interrupted_does_not_count(tmp_path: Path) -> None:
    attempts: list[int] = []
    entered = threading.Event()

    @activity(retry=RetryPolicy(max_attempts=1))
    async def interrupted() -> str:
        attempts.append(activity.info().attempt)
        entered.set()
        if len(attempts) < 3:
            await asyncio.Event().wait()
        return "done"

    @workflow
    async def once() -> str:
        return await interrupted()

    app = application(interrupted, once)

    async def life(last: bool) -> None:
        entered.clear()
        async with engine(tmp_path, app) as it:
            await it.start("once", {}, id="a")
            await until(entered.is_set)
            if last:
                assert (await it.result("a", wait=10)).result == "done"

    for number in range(3):
        go(life(number == 2))
    assert attempts == [1, 1, 1]


def test_timeouts_for_async_and_plain_activities(tmp_path: Path) -> None:
    release = threading.Event()

    @activity(retry=RetryPolicy(max_attempts=1), timeout=0.01)
    async def hangs() -> None:
        await asyncio.Event().wait()

    @activity(retry=RetryPolicy(max_attempts=1), timeout=0.01)
    def blocks() -> None:
        release.wait(20)

    @workflow
    async def tries() -> list[str]:
        found = await asyncio.gather(hangs(), blocks(), return_exceptions=True)
        return [error.type for error in found if isinstance(error, ActivityFailed)]

    async def test() -> None:
        async with engine(tmp_path, application(hangs, blocks, tries)) as it:
            await it.start("tries", {}, id="a")
            assert (await it.result("a", wait=10)).result == ["TimeoutError", "TimeoutError"]
        release.set()

    go(test())


def test_plain_activities_run_on_a_bounded_number_of_threads(tmp_path: Path) -> None:
    lock = threading.Lock()
    now, most = 0, 0

    @activity
    def busy(number: int) -> int:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        threading.Event().wait(0.002)
        with lock:
            now -= 1
        return number

    @workflow
    async def many() -> int:
        return sum(await asyncio.gather(*(busy(number) for number in range(40))))

    async def test() -> None:
        async with engine(tmp_path, application(busy, many), threads=3) as it:
            await it.start("many", {}, id="a")
            assert (await it.result("a", wait=20)).result == sum(range(40))

    go(test())
    assert 1 < most <= 3


@pytest.mark.parametrize("forced", [False, True])
def test_a_cancelled_activity_is_stopped_and_its_cancellation_logged(
    tmp_path: Path, forced: bool
) -> None:
    stopped: list[bool] = []

    @activity
    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(True)

    @workflow
    async def gives_up() -> str:
        try:
            await asyncio.wait_for(endless(), 1)
        except TimeoutError:
            return "gave up"
        return "?"

    async def test() -> None:
        app = application(endless, gives_up)
        async with engine(tmp_path, app, forced_replay=forced) as it:
            await it.start("gives_up", {}, id="a")
            assert (await it.result("a", wait=10)).result == "gave up"
            assert [event.kind for event in it.events("a")][-2:] == [
                Kind.STEP_CANCELLED,
                Kind.COMPLETED,
            ]
            await until(lambda: bool(stopped))

    go(test())
    assert inspect_log(tmp_path / "log.db").executions["completed"] == 1


# Timers -------------------------------------------------------------------------------------------


def test_a_timer_keeps_its_deadline_over_a_restart(tmp_path: Path) -> None:
    @workflow
    async def sleeps() -> str:
        before = workflow.now()
        await workflow.sleep(3600)
        return str(workflow.now() - before)

    app = application(sleeps)
    clock = 1_800_000_000.0

    async def life(now: float, done: bool) -> None:
        async with engine(tmp_path, app, clock=lambda: now) as it:
            await it.start("sleeps", {}, id="a")
            if done:
                assert (await it.result("a", wait=10)).result == "1:00:01"
            else:
                assert (await it.result("a")).status is Status.RUNNING

    go(life(clock, False))
    go(life(clock + 3599, False))
    go(life(clock + 3601, True))


# Transactions -------------------------------------------------------------------------------------


def rows(path: Path, sql: str) -> list[Any]:
    db = apsw.Connection(str(path / "log.db"), flags=apsw.SQLITE_OPEN_READONLY)
    db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    found = db.execute(sql).fetchall()
    db.close()
    return found


@activity(transactional=True, retry=RetryPolicy(max_attempts=3, initial=0.01))
def put(value: int) -> int:
    db = activity.transaction()
    db.execute("CREATE TABLE IF NOT EXISTS thing(value INTEGER)")
    db.execute("INSERT INTO thing VALUES (?)", (value,))
    if activity.info().attempt == 1:
        raise ValueError("roll back")
    return int(next(db.execute("SELECT count(*) FROM thing"))[0])


@pytest.mark.parametrize("level", list(Durability))
@pytest.mark.parametrize("forced", [False, True])
def test_a_transactional_activity_commits_with_its_event(
    tmp_path: Path, forced: bool, level: Durability
) -> None:
    @workflow
    async def puts() -> list[int]:
        counts = await asyncio.gather(put(1), put(2), double(3), workflow.sleep(0.001), put(4))
        return [await put(5), *(count for count in counts if isinstance(count, int))]

    async def test() -> None:
        app = application(put, double, puts)
        options: dict[str, Any] = {"durability": level, "forced_replay": forced}
        async with engine(tmp_path, app, barrier=FakeBarrier(), **options) as it:
            for id in "ab":
                await it.start("puts", {}, id=id)
            for id in "ab":
                view = await it.result(id, wait=10)
                assert view.status is Status.COMPLETED, view.error
        async with engine(tmp_path, app, barrier=FakeBarrier(), **options) as it:
            assert it.counts["diverged"] == 0

    go(test())
    assert sorted(rows(tmp_path, "SELECT value FROM thing")) == sorted([(1,), (2,), (4,), (5,)] * 2)
    assert summary(tmp_path)["completed"] == 2


@pytest.mark.parametrize(
    "sql",
    [
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT x",
        "PRAGMA wal_checkpoint",
        "PRAGMA journal_mode=DELETE",
        "VACUUM",
        "ATTACH ':memory:' AS other",
        "INSERT INTO litefleet_event VALUES (900, 1, 0, 2, 1, 1, NULL, NULL, NULL)",
        "UPDATE litefleet_commit SET at = 0",
        "DELETE FROM litefleet_event",
        "DROP TABLE litefleet_event",
        "ALTER TABLE litefleet_event ADD COLUMN x",
        "CREATE TABLE litefleet_mine(a)",
        "CREATE TRIGGER t AFTER INSERT ON litefleet_event BEGIN SELECT 1; END",
        "CREATE TEMP TRIGGER t AFTER INSERT ON litefleet_event BEGIN SELECT 1; END",
        "CREATE INDEX i ON litefleet_event(kind)",
        "DROP VIEW executions",
        "CREATE TABLE mine(a UNIQUE ON CONFLICT ROLLBACK);"
        " INSERT INTO mine VALUES (1); INSERT INTO mine VALUES (1)",
    ],
)
def test_a_transactional_activity_cannot_touch_the_log(tmp_path: Path, sql: str) -> None:
    @activity(transactional=True, retry=RetryPolicy(max_attempts=1))
    def does(sql: str) -> None:
        activity.transaction().execute(sql)

    @activity(transactional=True, retry=RetryPolicy(max_attempts=1))
    def swallows(sql: str) -> None:
        with suppress(apsw.Error):
            activity.transaction().execute(sql)

    @workflow
    async def tries(sql: str) -> str:
        found = await asyncio.gather(
            does(sql), double(2), swallows(sql), put(7), return_exceptions=True
        )
        return str(type(found[0]).__name__)

    async def test() -> None:
        async with engine(tmp_path, application(does, swallows, put, double, tries)) as it:
            await it.start("tries", {"sql": sql}, id="a")
            view = await it.result("a", wait=10)
            assert view.result == "ActivityFailed"

    go(test())
    assert rows(tmp_path, "SELECT value FROM thing") == [(7,)]
    assert summary(tmp_path)["completed"] == 1


# Durability ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", list(Durability))
def test_an_effect_waits_for_the_proof_of_its_intent(tmp_path: Path, level: Durability) -> None:
    barrier: FakeBarrier
    started: list[int] = []

    @activity
    async def effect(number: int) -> int:
        started.append(number)
        return number

    @workflow
    async def two() -> int:
        return await effect(1) + await effect(2)

    async def test() -> None:
        nonlocal barrier
        barrier = FakeBarrier()
        barrier.open.clear()
        app = application(effect, two)
        async with engine(tmp_path, app, barrier=barrier, durability=level) as it:
            await it.start("two", {}, id="a")
            if level is Durability.ASYNC:
                assert (await it.result("a", wait=10)).result == 3
                assert barrier.asked == []
                return
            await until(lambda: barrier.asked == [2])
            assert started == []
            barrier.open.set()
            await until(lambda: bool(started))
            assert (await it.result("a", wait=10)).result == 3
            # Intent 2 and intent 4 at least; with every_commit the results 3 and 5 too.
            assert max(barrier.asked) == (4 if level is Durability.BEFORE_EFFECTS else 5)
            assert barrier.most_at_once == 1

    go(test())


def test_an_activity_may_ask_for_more_than_its_workflow(tmp_path: Path) -> None:
    barrier: FakeBarrier
    started: list[str] = []

    @activity
    async def careless() -> None:
        started.append("careless")

    @activity(durability="before_effects")
    async def careful() -> None:
        started.append("careful")

    @workflow
    async def both() -> None:
        await asyncio.gather(careful(), careless())

    async def test() -> None:
        nonlocal barrier
        barrier = FakeBarrier()
        barrier.open.clear()
        async with engine(tmp_path, application(careless, careful, both), barrier=barrier) as it:
            await it.start("both", {}, id="a")
            await until(lambda: bool(started and barrier.asked))
            assert started == ["careless"]
            barrier.open.set()
            assert (await it.result("a", wait=10)).status is Status.COMPLETED

    go(test())


def test_timed_out_and_unknown_are_asked_again(tmp_path: Path) -> None:
    async def test() -> None:
        barrier = FakeBarrier(Outcome.TIMED_OUT, Outcome.UNKNOWN)
        level = Durability.BEFORE_EFFECTS
        async with engine(
            tmp_path, application(double, doubled), barrier=barrier, durability=level
        ) as it:
            await it.start("doubled", {"number": 1}, id="a")
            assert (await it.result("a", wait=10)).result == 3
            assert barrier.asked == [2, 2, 2]

    go(test())


def test_fenced_stops_everything(tmp_path: Path) -> None:
    started: list[int] = []
    fenced: list[bool] = []

    @activity
    async def effect() -> None:
        started.append(1)

    @activity
    async def endless() -> None:
        await asyncio.Event().wait()

    @workflow
    async def one() -> None:
        await effect()

    async def test() -> None:
        it = engine(
            tmp_path,
            application(effect, one),
            barrier=FakeBarrier(Outcome.FENCED),
            durability=Durability.BEFORE_EFFECTS,
            on_fenced=lambda: fenced.append(True),
        )
        async with it:
            await it.start("one", {}, id="a")
            with pytest.raises(EngineStopped, match="fenced"):
                await it.result("a", wait=10)
            with pytest.raises(EngineStopped, match="fenced"):
                await it.start("one", {}, id="b")
            assert await it.prove(1, within=1) is Outcome.FENCED

    go(test())
    assert (started, fenced) == ([], [True])
    assert summary(tmp_path)["running"] == 1


def test_a_level_that_nothing_can_prove_is_refused(tmp_path: Path) -> None:
    @activity(durability="before_effects")
    async def careful() -> None: ...

    @workflow(durability="every_commit")
    async def strict() -> None: ...

    async def opens(*things: object, durability: Durability = Durability.ASYNC) -> None:
        with pytest.raises(DurabilityUnavailable):
            await engine(tmp_path, application(*things), durability=durability).open()

    go(opens(double, doubled, durability=Durability.BEFORE_EFFECTS))
    go(opens(careful, doubled))
    go(opens(strict))
    assert not (tmp_path / "log.db").exists()


def test_without_authority_no_effect_starts(tmp_path: Path) -> None:
    started: list[str] = []
    allowed = False

    @activity
    async def one() -> None:
        started.append("one")

    @activity
    def two() -> None:
        started.append("two")

    @workflow
    async def both() -> None:
        await asyncio.gather(one(), two())

    async def test() -> None:
        nonlocal allowed
        asked = 0

        def authority() -> bool:
            nonlocal asked
            asked += 1
            return allowed

        app = application(one, two, both)
        async with engine(tmp_path, app, barrier=FakeBarrier(), authority=authority) as it:
            await it.start("both", {}, id="a")
            await until(lambda: asked >= 4)
            assert started == []
            assert await it.prove(it.sequence, within=5) is Outcome.UNKNOWN
            allowed = True
            assert (await it.result("a", wait=10)).status is Status.COMPLETED
            assert await it.prove(it.sequence, within=5) is Outcome.DURABLE

    go(test())
    assert sorted(started) == ["one", "two"]


# Failing ------------------------------------------------------------------------------------------


def test_a_commit_that_is_busy_is_tried_again(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("node.engine.schema.BUSY_TIMEOUT_MS", 10)

    async def test() -> None:
        async with engine(tmp_path, application(double, doubled)) as it:
            other = apsw.Connection(str(tmp_path / "log.db"))
            other.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            other.execute("BEGIN IMMEDIATE")
            start = asyncio.create_task(it.start("doubled", {"number": 1}, id="a"))
            await asyncio.sleep(0.1)
            assert not start.done()
            other.execute("ROLLBACK")
            other.close()
            await start
            assert (await it.result("a", wait=10)).result == 3

    go(test())
    assert summary(tmp_path)["completed"] == 1


def test_a_log_that_cannot_be_written_stops_the_engine_loudly(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("node.engine.schema.BUSY_TIMEOUT_MS", 1)
    monkeypatch.setattr("node.engine.writer.RETRIES", (0.001, 0.001))
    failures: list[BaseException] = []
    started: list[int] = []

    @activity
    async def effect() -> None:
        started.append(1)

    @workflow
    async def one() -> None:
        await effect()

    async def test() -> None:
        async with engine(tmp_path, application(effect, one), on_failed=failures.append) as it:
            other = apsw.Connection(str(tmp_path / "log.db"))
            other.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(EngineStopped, match="the engine failed"):
                await it.start("one", {}, id="a")
            with pytest.raises(EngineStopped, match="the engine failed"):
                await it.start("one", {}, id="b")
            other.execute("ROLLBACK")
            other.close()

    go(test())
    assert len(failures) == 1
    assert isinstance(failures[0], apsw.BusyError)
    assert started == []
    assert summary(tmp_path) == {"running": 0, "completed": 0, "failed": 0}


def test_closing_keeps_what_is_ready_and_refuses_more(tmp_path: Path) -> None:
    async def test() -> None:
        it = engine(tmp_path, application(double, doubled))
        await it.open()
        starts = [
            asyncio.create_task(it.start("doubled", {"number": n}, id=f"e{n}")) for n in range(50)
        ]
        await asyncio.sleep(0)
        await it.close()
        await asyncio.gather(*starts, return_exceptions=True)
        with pytest.raises(EngineStopped):
            await it.start("doubled", {"number": 1})
        async with engine(tmp_path, application(double, doubled)) as again:
            for n in range(50):
                assert (await again.result(f"e{n}", wait=10)).result == 2 * n + 1

    go(test())
    assert summary(tmp_path)["completed"] == 50


def test_a_divergence_stops_one_execution_until_the_code_fits_again(tmp_path: Path) -> None:
    gate = RetryPolicy(max_attempts=None, initial=3600)

    @activity(retry=gate)
    async def wait_here() -> None:
        raise ConnectionError

    @workflow(name="job")
    async def old() -> int:
        value = await double(1)
        await wait_here()
        return value

    @workflow(name="job")
    async def new() -> int:
        await wait_here()
        return await double(1)

    async def first() -> None:
        async with engine(tmp_path, application(double, wait_here, doubled, old)) as it:
            await it.start("job", {}, id="a")
            await until(lambda: it.events("a")[-1].kind is Kind.STEP_RETRY)

    async def second() -> None:
        async with engine(tmp_path, application(double, wait_here, doubled, new)) as it:
            view = it.execution("a")
            assert view.status is Status.DIVERGED
            assert view.error is not None
            assert view.error["sequence"] == 2
            assert "the log holds step double #1" in view.error["message"]
            assert "the code did step wait_here #1" in view.error["message"]
            assert [v.id for v in it.executions(status=Status.DIVERGED)] == ["a"]
            # The others go on.
            await it.start("doubled", {"number": 1}, id="b")
            assert (await it.result("b", wait=10)).result == 3
        async with engine(tmp_path, application(double, doubled)) as it:
            assert it.execution("a").status is Status.DIVERGED

    async def third() -> None:
        async with engine(tmp_path, application(double, wait_here, doubled, old)) as it:
            assert it.execution("a").status is Status.RUNNING

    go(first())
    go(second())
    go(third())
    assert summary(tmp_path) == {"running": 1, "completed": 1, "failed": 0}


def test_files_inside_a_workflow_stop_it(tmp_path: Path) -> None:
    @workflow
    async def reads() -> str:
        import colorsys  # an import inside a workflow is fine

        assert colorsys.rgb_to_hsv(0, 0, 0)
        return Path(__file__).read_text()

    async def test() -> None:
        async with engine(tmp_path, application(reads)) as it:
            await it.start("reads", {}, id="a")
            view = await it.result("a", wait=10)
            assert view.status is Status.DIVERGED
            assert view.error is not None
            assert "opening a file" in view.error["message"]

    go(test())
    assert summary(tmp_path)["running"] == 1


def test_the_loop_goes_on_while_another_one_holds_the_file(tmp_path: Path) -> None:
    async def scenario() -> None:
        @activity
        async def step(number: int) -> int:
            return number

        @workflow
        async def steps() -> int:
            return sum([await step(number) for number in range(30)])

        async with engine(tmp_path, application(step, steps)) as running:
            # So many commits that they are made on the loop's own thread by now.
            started = await running.start("steps", {})
            await running.result(started.view.id, wait=20)
            other = apsw.Connection(str(tmp_path / "log.db"))
            other.execute("BEGIN IMMEDIATE")
            blocked = asyncio.create_task(running.start("steps", {}, id="blocked"))
            for _ in range(50):
                await asyncio.sleep(0.001)
            assert not blocked.done()
            other.execute("ROLLBACK")
            other.close()
            await blocked
            assert (await running.result("blocked", wait=20)).result == 435

    go(scenario())


def test_context_variables_of_an_attempt_stay_in_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        mark: ContextVar[str] = ContextVar("mark", default="unset")

        @activity
        async def step() -> str:
            before = mark.get()
            mark.set("set by an attempt")
            return before

        @workflow
        async def steps() -> list[str]:
            first = await step()
            return [first, mark.get(), await step(), mark.get()]

        async with engine(tmp_path, application(step, steps)) as running:
            started = await running.start("steps", {})
            view = await running.result(started.view.id, wait=20)
            assert view.result == ["unset"] * 4

    go(scenario())


def test_nothing_is_written_after_a_commit_on_the_loop_failed(tmp_path: Path) -> None:
    async def scenario() -> None:
        @activity
        async def step(number: int) -> int:
            return number

        @workflow
        async def steps() -> int:
            return sum([await step(number) for number in range(30)])

        failures: list[BaseException] = []
        running = engine(tmp_path, application(step, steps), on_failed=failures.append)
        await running.open()
        started = await running.start("steps", {})
        await running.result(started.view.id, wait=20)
        before = running.sequence
        other = apsw.Connection(str(tmp_path / "log.db"))
        other.execute("ALTER TABLE litefleet_event RENAME TO away")
        with pytest.raises(EngineStopped):
            await running.start("steps", {}, id="lost")
        other.execute("ALTER TABLE away RENAME TO litefleet_event")
        other.close()
        assert [type(failure) for failure in failures] == [apsw.SQLError]
        with pytest.raises(EngineStopped):
            await running.start("steps", {}, id="later")
        await running.close()
        assert inspect_log(tmp_path / "log.db").sequence == before

    go(scenario())
