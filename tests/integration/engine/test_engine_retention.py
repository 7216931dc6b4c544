"""What the log no longer needs is removed, and what is left holds together."""

from __future__ import annotations

import asyncio
import json
import shutil
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest

from backup.ownership import OwnerRecord
from node import Queue, Rate, Retention, activity, workflow
from node.engine import schema
from node.engine.durability import Outcome, Proof
from node.engine.errors import (
    ExecutionHeld,
    ExecutionOpen,
    LogDamaged,
    NotProvenYet,
    UnknownExecution,
)
from node.engine.events import Kind, Reuse
from node.engine.inspection import chain_at, committed_at, events_of, inspect_log
from node.engine.removal import Knife, Limits
from node.engine.retention import Default
from node.log import adopt_tail
from tests.integration.engine.fixtures import old_app
from tests.integration.engine.harness import Proves, application, engine, go

NOTHING = timedelta()
seen: list[tuple[str, int, str]] = []


@activity
async def step(word: str) -> str:
    info = activity.info()
    seen.append((info.execution, info.occurrence, info.idempotency_key))
    return word


@workflow
async def work(words: list[str]) -> str:
    for word in words:
        await step(word)
    return f"{workflow.uuid4()}"


@workflow
async def fails() -> None:
    raise ValueError("no")


@workflow
async def waits() -> None:
    await workflow.receive("go")


@workflow
async def goes_on(left: int) -> int:
    out = workflow.stream("out")
    await step("on")
    out.publish(left)
    if left:
        workflow.continue_as_new(left - 1)
    await workflow.receive("go")
    return left


@workflow
async def family(id: str) -> str:
    return await work.with_id(id).child([])


BASE = (step, work, fails, waits, goes_on, family)
KEPT = application(*BASE)
EVENTS = "SELECT count(*) FROM litefleet_event"


def path_of(folder: Path) -> Path:
    return folder / "log.db"


def count(folder: Path, sql: str) -> int:
    with closing(schema.connect(path_of(folder))) as db:
        rows: list[Any] = db.execute(sql).fetchall()
    return int(rows[0][0])


async def finish(it: Any, workflow: str, given: dict[str, Any], *ids: str, **more: Any) -> None:
    await asyncio.gather(*(it.start(workflow, given, id=id, **more) for id in ids))
    for id in ids:
        await it.result(id, wait=20)


def test_rules_remove_what_they_no_longer_keep(tmp_path: Path) -> None:
    rules = (
        Retention(workflow=work, outcome="completed", keep=NOTHING),
        Retention(outcome="failed", keep=timedelta(days=3)),
        Retention(workflow="work", keep=timedelta.max),
    )

    async def test() -> None:
        now = 1_800_000_000.0
        async with engine(tmp_path, application(*BASE, *rules), clock=lambda: now) as it:
            await finish(it, "work", {"words": ["a", "b"]}, *(f"w{n}" for n in range(20)))
            await finish(it, "fails", {}, "f1", "f2")
            await it.start("waits", {}, id="open")
            assert it.counts["completed"] == 20
            plan = await it.retention.plan()
            assert (plan.executions, len(plan.named_executions)) == (20, 20)
            done = await it.retention.run()
            assert (done.executions, done.trouble) == (20, None)
            assert it.counts["completed"] == 0
            assert {view.id for view in it.executions()} == {"f1", "f2", "open"}
            with pytest.raises(UnknownExecution):
                it.execution("w1")
            inspect_log(path_of(tmp_path))
            now += 3 * 24 * 3600 + 1
            assert (await it.retention.run()).executions == 2
            assert (await it.retention.plan()).executions == 0
            view = it.retention.view()
            assert (view.executions, view.held) == (22, [])
        # Counted from the log.
        async with engine(tmp_path, application(*BASE, *rules)) as it:
            assert [view.id for view in it.executions()] == ["open"]
            assert it.counts["completed"] == it.counts["failed"] == 0
            await it.signal("open", "go")
            await it.result("open", wait=20)
            assert it.retention.view().executions == 22
        inspect_log(path_of(tmp_path))

    go(test())


def test_nothing_is_removed_without_a_rule(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, KEPT) as it:
            await finish(it, "work", {"words": ["a"]}, "a")
            assert (await it.retention.run()).executions == 0
            assert it.retention.view().next_at is None
            assert it.retention.view().rules == []
        before = inspect_log(path_of(tmp_path)).sequence
        default = Default(keep=NOTHING)
        async with engine(tmp_path, KEPT, retention=default) as it:
            assert (await it.retention.run()).executions == 1
        assert before < inspect_log(path_of(tmp_path)).sequence

    go(test())


def test_it_runs_by_itself_and_wakes_nobody(tmp_path: Path) -> None:
    rule = Retention(keep=timedelta(hours=1))

    async def test() -> None:
        now = 1_800_000_000.0
        async with engine(tmp_path, application(*BASE, rule), clock=lambda: now) as it:
            await finish(it, "work", {"words": []}, "a")
            assert it.next_wake is None
            assert it.retention.view().next_at is not None
            now += 3601
            it.look_at_clock()
            async with asyncio.timeout(20):
                while it.retention.view().executions == 0:
                    await asyncio.sleep(0.002)
            # And again, when it is due again.
            await finish(it, "work", {"words": []}, "b")
            async with asyncio.timeout(20):
                while it.retention.view().next_at is None:
                    await asyncio.sleep(0.002)
            assert it.next_wake is None
            now += 3601
            it.look_at_clock()
            async with asyncio.timeout(20):
                while it.retention.view().executions == 1:
                    await asyncio.sleep(0.002)

    go(test())


@pytest.mark.parametrize("limits", [Limits(), Limits(events=3), Limits(seconds=0)])
def test_superseded_histories_go_and_the_rest_goes_on(tmp_path: Path, limits: Limits) -> None:
    app = application(*BASE, Retention(history=NOTHING))

    async def test() -> None:
        async with engine(tmp_path, app) as it:
            it.retention._limits = limits
            await it.start("goes_on", {"left": 5}, id="a")
            with it.follow("a", "out") as reader:
                while (await reader.read(10, 20)).next < 6:
                    pass
            with it.follow("a", "out", 2) as early:
                early._take()
                done = await it.retention.run()
                assert done.trouble is None
                assert done.events > 15
                kinds = [event.kind for event in it.events("a")]
                assert kinds[:2] == [Kind.STARTED, Kind.CONTINUED]
                assert kinds.count(Kind.CONTINUED) == 1
                # Who has read before goes on with the same offsets; so does who comes later.
                assert [item.value for item in (await early.read(10, 0)).items] == [3, 2, 1, 0]
            with it.follow("a", "out", 3) as late:
                page = await late.read(10, 0)
                assert [(item.offset, item.value) for item in page.items] == [(5, 0)]
            assert it.streams("a")[0].length == 6
            assert it.execution("a").input == {"left": 5}
            # The start is still the same start.
            assert not (await it.start("goes_on", {"left": 5}, id="a")).created
        inspect_log(path_of(tmp_path))
        async with engine(tmp_path, app) as it:
            it.retention._limits = limits
            await it.signal("a", "go")
            assert (await it.result("a", wait=20)).result == 0
            for _ in range(2):
                await finish(it, "work", {"words": ["x"]}, "again", reuse=Reuse.IF_CLOSED)
            await it.retention.run()
            assert next(event.kind for event in it.events("again")) is Kind.RESTARTED
            assert it.streams("a")[0].length == 6
            await it.start("goes_on", {"left": 0}, id="open")
        inspect_log(path_of(tmp_path))

    go(test())


def test_an_id_that_is_used_again_goes_on_counting(tmp_path: Path) -> None:
    async def test() -> None:
        seen.clear()
        async with engine(tmp_path, KEPT) as it:
            await finish(it, "work", {"words": ["a", "b"]}, "x")
            first = it.execution("x").result
            await it.retention.delete("x")
            await finish(it, "work", {"words": ["a"]}, "x")
            assert it.execution("x").result != first
            await it.retention.delete("x")
            inspect_log(path_of(tmp_path))
        async with engine(tmp_path, KEPT) as it:
            await finish(it, "work", {"words": ["a"]}, "x")
            assert next(event.kind for event in it.events("x")) is Kind.RESTARTED
            assert it.execution("x").input == {"words": ["a"]}
        assert [occurrence for _, occurrence, _ in seen] == [1, 2, 3, 4]
        assert len({key for _, _, key in seen}) == 4
        inspect_log(path_of(tmp_path))

    go(test())


def test_a_start_waits_for_the_removal_of_its_id(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, KEPT) as it:
            it.retention._limits = Limits(events=2)
            await finish(it, "work", {"words": ["a"] * 10}, "x")
            deleting = asyncio.create_task(it.retention.delete("x"))
            while "x" not in it._commits.removing:
                await asyncio.sleep(0)
            with pytest.raises(UnknownExecution):
                it.execution("x")
            started = await it.start("work", {"words": ["b"]}, id="x")
            assert started.created
            assert deleting.done()
            await it.result("x", wait=20)
            # A child of that id does, too.
            await it.start("work", {"words": ["c"] * 5}, id="child")
            await it.result("child", wait=20)
            deleting = asyncio.create_task(it.retention.delete("child"))
            while "child" not in it._commits.removing:
                await asyncio.sleep(0)
            await finish(it, "family", {"id": "child"}, "parent")
            await deleting
            assert it.execution("parent").status.value == "completed"
        inspect_log(path_of(tmp_path))

    go(test())


def test_what_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, KEPT, retention=Default(keep=NOTHING)) as it:
            await it.start("waits", {}, id="open")
            with pytest.raises(ExecutionOpen):
                await it.retention.delete("open")
            with pytest.raises(UnknownExecution):
                await it.retention.delete("nobody")
            assert await it.retention.hold("open", "a lawsuit")
            assert not await it.retention.hold("open")
            await it.signal("open", "go")
            await it.result("open", wait=20)
            with pytest.raises(ExecutionHeld):
                await it.retention.delete("open")
            assert (await it.retention.run()).executions == 0
            assert it.retention.view().held == ["open"]
        inspect_log(path_of(tmp_path))
        async with engine(tmp_path, KEPT) as it:
            assert it.retention.view().held == ["open"]
            assert await it.retention.release("open")
            assert not await it.retention.release("open")
            assert await it.retention.delete("open") == 3
            with pytest.raises(ExecutionHeld):
                await it.retention.delete("litefleet.retention")
        inspect_log(path_of(tmp_path))

    go(test())


def test_a_child_stays_until_its_parent_has_heard_of_it(tmp_path: Path) -> None:
    rule, folder = Retention(keep=NOTHING), tmp_path

    async def test() -> None:
        @workflow(name="family")
        async def other(id: str) -> str:
            await step("first")
            return await work.with_id(id).child([])

        @workflow(name="work")
        async def slow(words: list[str]) -> str:
            await workflow.receive("go")
            return "done"

        async with engine(folder, application(step, slow, family)) as it:
            await it.start("family", {"id": "c"}, id="p")
        async with engine(folder, application(step, slow, other, rule)) as it:
            assert it.execution("p").status.value == "diverged"
            await it.signal("c", "go")
            await it.result("c", wait=20)
            assert (await it.retention.run()).executions == 0
            with pytest.raises(ExecutionOpen, match="has not heard"):
                await it.retention.delete("c")
        async with engine(folder, application(step, slow, family, rule)) as it:
            assert (await it.result("p", wait=20)).result == "done"
            assert (await it.retention.run()).executions == 2

    go(test())


def test_blobs_go_with_the_last_that_names_them(tmp_path: Path) -> None:
    big = "b" * 9000

    async def test() -> None:
        async with engine(tmp_path, KEPT, inline_limit=4096) as it:
            await finish(it, "work", {"words": [big]}, "a", "b")
            assert count(tmp_path, "SELECT count(*) FROM litefleet_blob") == 3
            await it.retention.delete("a")
            assert count(tmp_path, "SELECT count(*) FROM litefleet_blob") == 3
            await it.retention.delete("b")
            assert count(tmp_path, "SELECT count(*) FROM litefleet_blob") == 0
        inspect_log(path_of(tmp_path))

    go(test())


def test_what_was_removed_is_not_in_the_file(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, KEPT) as it:
            for number in range(8):
                await finish(it, "work", {"words": [f"SECRET{'y' * 3000}"]}, f"id-of-{number}")
            for number in range(8):
                await it.retention.delete(f"id-of-{number}")

    go(test())
    path = path_of(tmp_path)
    with closing(apsw.Connection(str(path))) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert b"SECRET" not in path.read_bytes()
    assert b"id-of-" not in path.read_bytes()


def test_a_rate_still_counts_turns_after_their_executions(tmp_path: Path) -> None:
    line = Queue("line", rate=Rate(1, per=3600))

    @workflow(queue=line)
    async def turn() -> None:
        pass

    app = application(turn, line, Retention(keep=NOTHING))

    async def test() -> None:
        async with engine(tmp_path, app) as it:
            await finish(it, "turn", {}, "first")
            assert (await it.retention.run()).executions == 0
        async with engine(tmp_path, app) as it:
            await it.start("turn", {}, id="second")
            assert it.execution("second").status.value == "queued"

    go(test())


class Refuses:
    async def prove(self, sequence: int) -> Proof:
        return Proof(Outcome.TIMED_OUT)


def test_only_what_is_proven_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = Retention(keep=NOTHING)
    monkeypatch.setattr("node.engine.engine.PROOF_PATIENCE", 0.05)

    async def test() -> None:
        async with engine(tmp_path, application(*BASE, rule), barrier=Refuses()) as it:
            await finish(it, "work", {"words": []}, "a")
            done = await it.retention.run()
            assert done.executions == 0
            assert done.trouble is not None
            assert "proven" in done.trouble
            with pytest.raises(NotProvenYet):
                await it.retention.delete("a")
            assert it.execution("a").result

    go(test())


def whole(folder: Path, target: Path) -> Path:
    """A log as a restore gives it: one file."""
    target.mkdir(parents=True)
    with closing(schema.connect(path_of(folder))) as db:
        db.execute("VACUUM INTO ?", (str(target / "log.db"),))
    with closing(apsw.Connection(str(target / "log.db"))) as db:
        db.execute("PRAGMA journal_mode=WAL").fetchall()
    return target / "log.db"


def test_a_tail_with_removals_is_adopted(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    record = OwnerRecord.model_construct(tenant="acme", lineage="line")

    async def write() -> None:
        async with engine(folder, KEPT, barrier=Proves()) as it:
            await finish(it, "work", {"words": ["a"]}, "a", "b", "c")
            # The bucket has just this, up to the end of what is removed next.
            whole(folder, tmp_path / "bucket")
            await it.retention.delete("c")

    go(write())
    said = adopt_tail(path_of(folder), tmp_path / "bucket" / "log.db", record)
    assert said.startswith("the local log goes on")
    assert inspect_log(tmp_path / "bucket" / "log.db").executions["completed"] == 3

    async def more() -> None:
        async with engine(folder, KEPT, barrier=Proves()) as it:
            # As if the bucket did not have what is removed: its end cannot be found any more.
            whole(folder, tmp_path / "older")
            await finish(it, "work", {"words": ["d"]}, "d")
            for id in ("a", "b", "d"):
                await it.retention.delete(id)

    go(more())
    said = adopt_tail(path_of(folder), tmp_path / "older" / "log.db", record)
    assert "does not go on" in said


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_log_can_be_pruned(tmp_path: Path, version: int) -> None:
    import gzip

    packed = Path(old_app.__file__).parent / f"version{version}.db.gz"
    path_of(tmp_path).write_bytes(gzip.decompress(packed.read_bytes()))

    async def test() -> None:
        async with engine(tmp_path, old_app.APP) as it:
            before = inspect_log(path_of(tmp_path)).executions
            await it.retention.delete("one")
            await it.retention.delete("two")
            after = inspect_log(path_of(tmp_path)).executions
            assert sum(after.values()) == sum(before.values()) - 1
            await it.result("three", wait=20)
            await it.retention.delete("three")
        inspect_log(path_of(tmp_path))

    go(test())


def moments(folder: Path) -> dict[int, tuple[int, int]]:
    return {event.sequence: (event.at, event.commit) for event in events_of(path_of(folder))}


def test_moments_of_what_is_left_stay(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, KEPT) as it:
            ids = [f"w{number}" for number in range(12)]
            await asyncio.gather(*(finish(it, "work", {"words": ["a"]}, id) for id in ids))
            before = moments(tmp_path)
            sequence = it.events("w3")[2].sequence
            at = committed_at(it._store.path, sequence)
            for id in [*ids[::2], "w3"]:
                await it.retention.delete(id)
            after = moments(tmp_path)
            assert len(after) < len(before)
            for one, moment in after.items():
                assert moment == before.get(one, moment)
            for id in ("w1", "w5"):
                for event in it.events(id):
                    assert (event.at, event.commit) == before[event.sequence]
            later = committed_at(it._store.path, sequence)
            assert at is not None
            assert later is not None
            assert later >= at
            summary = inspect_log(it._store.path)
            assert chain_at(it._store.path, summary.sequence) == summary.chain

    go(test())


def test_a_log_under_load_stays_bounded(tmp_path: Path) -> None:
    rules = (Retention(keep=NOTHING, history=NOTHING),)

    async def test() -> None:
        sizes: list[int] = []
        async with engine(tmp_path, application(*BASE, *rules)) as it:
            await it.start("waits", {}, id="old")
            for number in range(12):
                ids = [f"{number}-{n}" for n in range(40)]
                await finish(it, "work", {"words": ["x" * 300] * 4}, *ids)
                await it.retention.run()
                view = it.retention.view()
                sizes.append(view.size)
                assert view.ranges < 20
            rows = "SELECT count(*) FROM litefleet_commit"
            assert count(tmp_path, rows) < 20
            assert count(tmp_path, EVENTS) < 10
            assert count(tmp_path, "SELECT count(*) FROM litefleet_rest") < 10
        # But for what is remembered of the ids.
        assert sizes[-1] < sizes[2] + 12 * 40 * 64
        inspect_log(path_of(tmp_path))

    go(test())


# Tampering -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log with holes in the middle of commits, and between them."""
    folder = tmp_path_factory.mktemp("pruned")
    app = application(*BASE, Retention(history=NOTHING))

    async def write() -> None:
        async with engine(folder, app) as it:
            ids = [f"w{number}" for number in range(6)]
            await asyncio.gather(*(finish(it, "work", {"words": ["a", "b"]}, id) for id in ids))
            for id in ("alone", "next", "last"):
                await finish(it, "work", {"words": ["a"]}, id)
            await it.start("goes_on", {"left": 2}, id="g")
            with it.follow("g", "out") as reader:
                while (await reader.read(10, 20)).next < 3:
                    pass
            await it.retention.run()
            for id in ("w1", "w4", "next"):
                await it.retention.delete(id)
            await it.retention.hold("alone", "kept")
        inspect_log(path_of(folder))

    go(write())
    return folder


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        # A hole that nobody has recorded.
        ("DELETE FROM litefleet_event WHERE execution = (SELECT id FROM litefleet_execution"
         " WHERE key = 'w2')", "is missing"),
        ("DELETE FROM litefleet_event WHERE sequence = (SELECT last + 1 FROM litefleet_removed)",
         "is missing"),
        # One that is recorded, but not in the chain.
        ("UPDATE litefleet_removed SET last = last + 1 WHERE first = (SELECT max(first) FROM"
         " litefleet_removed); DELETE FROM litefleet_event WHERE sequence ="
         " (SELECT max(last) FROM litefleet_removed)", "."),
        # A record without a hole.
        ("UPDATE litefleet_removed SET last = last + 1", "is missing|is here"),
        ("INSERT INTO litefleet_removed VALUES (1, 1)", "event 1 is said to be removed"),
        ("INSERT INTO litefleet_removed VALUES (9999, 9999)", "never was"),
        ("DELETE FROM litefleet_removed", "is missing"),
        ("DELETE FROM litefleet_removed WHERE first = (SELECT max(first) FROM litefleet_removed)",
         "is missing"),
        # What is left was changed.
        ("UPDATE litefleet_event SET payload = '\"z\"' WHERE kind = 11 AND execution ="
         " (SELECT id FROM litefleet_execution WHERE key = 'w2')", "match its sum|match its hash"),
        ("UPDATE litefleet_event SET payload = '\"z\"' WHERE kind = 11 AND execution ="
         " (SELECT id FROM litefleet_execution WHERE key = 'last')", "match its hash"),
        ("UPDATE litefleet_event SET payload = '\"z\"' WHERE kind = 11 AND execution ="
         " (SELECT id FROM litefleet_execution WHERE key = 'alone')", "match its hash"),
        ("UPDATE litefleet_commit SET at = at + 1 WHERE sequence IN (SELECT sequence FROM"
         " litefleet_rest)", "match its sum|back in time"),
        ("UPDATE litefleet_commit SET chain = zeroblob(12) WHERE sequence IN (SELECT sequence FROM"
         " litefleet_rest)", "match its sum"),
        ("DELETE FROM litefleet_rest", "match its sum"),
        ("UPDATE litefleet_rest SET sum = zeroblob(12)", "match its sum"),
        ("INSERT INTO litefleet_rest VALUES (9999, x'00')", "said to be cut"),
        ("INSERT INTO litefleet_rest SELECT max(sequence), zeroblob(12) FROM litefleet_event",
         "said to be cut"),
        ("DELETE FROM litefleet_commit WHERE sequence > 0", "."),
        # What the chain knows of it.
        ("UPDATE litefleet_event SET payload = replace(payload, 'events\":', 'events\":1')"
         " WHERE sequence = (SELECT started FROM litefleet_execution"
         " WHERE key = 'litefleet.retention')", "match its hash"),
        ("DELETE FROM litefleet_hold", "held"),
        ("UPDATE litefleet_hold SET execution = execution + 1", "held"),
        ("UPDATE litefleet_execution SET status = 5 WHERE key = 'alone'", "are going"),
        ("UPDATE litefleet_offset SET sequence = sequence - 1", "lengths of streams"),
        ("UPDATE litefleet_gone SET run = -1", "had counted"),
        ("UPDATE litefleet_gone SET counts = '[1,0]'", "had counted"),
        # A history without the beginning that its gap allows.
        ("UPDATE litefleet_event SET back = 1 WHERE kind = 6", "does not follow"),
    ],
)  # fmt: skip
def test_tampering_beside_a_hole_is_found(
    pruned: Path, tmp_path: Path, statement: str, words: str
) -> None:
    for file in pruned.iterdir():
        shutil.copy(file, tmp_path)
    with closing(apsw.Connection(str(path_of(tmp_path)))) as db:
        db.execute(statement).fetchall()
        assert db.total_changes() > 0
    with pytest.raises(LogDamaged, match=words):
        inspect_log(path_of(tmp_path))


def test_a_removal_that_the_chain_does_not_know_is_found(pruned: Path, tmp_path: Path) -> None:
    for file in pruned.iterdir():
        shutil.copy(file, tmp_path)
    with closing(schema.connect(path_of(tmp_path))) as db:
        rows: list[Any] = db.execute(
            "SELECT id, closed FROM litefleet_execution WHERE key = 'w2'"
        ).fetchall()
        with db:
            # Everything that removing it takes, but for the word in the chain.
            knife = Knife(db, 0, bytes(32))
            knife.execution(rows[0][0], rows[0][1], 1000)
            knife.cut()
    with pytest.raises(LogDamaged, match="is not what the log has recorded"):
        inspect_log(path_of(tmp_path))


def test_damage_is_not_covered_up(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, KEPT) as it:
            await asyncio.gather(
                *(finish(it, "work", {"words": ["a"]}, id) for id in ("a", "b", "c"))
            )
            with closing(schema.connect(path_of(tmp_path))) as db:
                db.execute(
                    "UPDATE litefleet_event SET payload = '\"z\"' WHERE kind = 11 AND execution ="
                    " (SELECT id FROM litefleet_execution WHERE key = 'b')"
                )
            with pytest.raises(LogDamaged, match="match its hash"):
                await it.retention.delete("a")
            # Nothing was changed, and the engine goes on.
            assert it.execution("a").result
            assert (await it.start("work", {"words": []}, id="d")).created

    go(test())


def test_a_record_names_nothing_that_was_removed(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, KEPT) as it:
            await finish(it, "work", {"words": ["private"]}, "a-private-id")
            await it.retention.delete("a-private-id")
            record = it.execution("litefleet.retention")
            assert "private" not in json.dumps(record.input)
            assert record.input["record"]["executions"] == 1
            assert [view.id for view in it.executions()] == []

    go(test())


class Fickle:
    """A barrier that proves so many times, and then nothing until it is told."""

    def __init__(self, times: int) -> None:
        self.times = times

    async def prove(self, sequence: int) -> Proof:
        await asyncio.sleep(0)
        self.times -= 1
        return Proof(Outcome.DURABLE if self.times >= 0 else Outcome.TIMED_OUT)


def test_what_was_begun_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.engine.engine.PROOF_PATIENCE", 0.05)
    monkeypatch.setattr("node.engine.retention_control.PATIENCE", 0.1)
    barrier = Fickle(2)

    async def test() -> None:
        now = 1_800_000_000.0
        async with engine(tmp_path, KEPT, barrier=barrier, clock=lambda: now) as it:
            it.retention._limits = Limits(events=4)
            await finish(it, "work", {"words": ["a"] * 8}, "x")
            with pytest.raises(NotProvenYet):
                await it.retention.delete("x")
            # For everybody it is gone, and nobody may use its id before it is.
            with pytest.raises(UnknownExecution):
                it.execution("x")
            assert list(it.executions()) == []
            assert it.counts["completed"] == 0
            with pytest.raises(NotProvenYet, match="being removed"):
                await it.start("work", {"words": []}, id="x")
            assert inspect_log(path_of(tmp_path)).executions["completed"] == 1
            barrier.times = 1000
            assert it.retention.view().next_at is not None
            now += 60
            it.look_at_clock()
            assert (await it.start("work", {"words": []}, id="x")).created
            assert it.retention._store.record().going == ()
        inspect_log(path_of(tmp_path))

    go(test())


def test_one_who_leaves_does_not_disturb_the_next(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, KEPT) as it:
            await finish(it, "work", {"words": ["a"]}, "a", "b")
            deleting = asyncio.create_task(it.retention.delete("a"))
            while "a" not in it._commits.removing:
                await asyncio.sleep(0)
            deleting.cancel()
            assert await it.retention.delete("b")
            with pytest.raises(UnknownExecution):
                it.execution("a")
        inspect_log(path_of(tmp_path))

    go(test())
