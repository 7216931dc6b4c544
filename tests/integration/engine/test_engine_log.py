"""The log file: who may open it, and what is found out about a damaged one."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from node import activity, workflow
from node.engine import schema
from node.engine.application import collect
from node.engine.engine import Engine, EngineConfig
from node.engine.errors import LogDamaged, LogInUse, LogMissing, LogRefused
from node.engine.events import Kind
from node.engine.inspection import chain_at, events_of, inspect_log


@activity
async def add(a: int, b: int) -> int:
    return a + b


@workflow
async def count(to: int = 3) -> int:
    total = 0
    for number in range(to):
        total = await add(total, number)
    await workflow.sleep(0.001)
    return total


@workflow
async def patient() -> None:
    await workflow.sleep(3600)


APP = collect("app", [add, count, patient])


def config(path: Path, *, create: bool = False, lineage: str = "line") -> EngineConfig:
    return EngineConfig(path=path, application=APP, tenant="acme", lineage=lineage, create=create)


async def write(path: Path) -> None:
    async with Engine(config(path, create=True)) as engine:
        for id in ("one", "two"):
            await engine.start("count", {}, id=id)
            await engine.result(id, wait=10)
        await engine.start("patient", {}, id="three")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "log.db"
    asyncio.run(write(path))
    return path


@pytest.fixture
def log(written: Path, tmp_path: Path) -> Path:
    for file in written.parent.iterdir():
        shutil.copy(file, tmp_path)
    return tmp_path / "log.db"


async def refused(config: EngineConfig, error: type[LogRefused]) -> None:
    def contents() -> dict[str, bytes]:
        # The -shm file is SQLite's index of the WAL, made anew by whoever opens it first.
        files = [file for file in config.path.parent.iterdir() if file.suffix != ".db-shm"]
        return {file.name: file.read_bytes() for file in files}

    before = contents()
    with pytest.raises(error):
        await Engine(config).open()
    after = contents()
    for name in before:
        assert after[name] == before[name], f"{name} was touched"


def test_the_log_says_what_happened(log: Path) -> None:
    summary = inspect_log(log)
    assert (summary.tenant, summary.lineage) == ("acme", "line")
    assert summary.executions == {
        "running": 1,
        "completed": 2,
        "failed": 0,
        "cancelled": 0,
        "terminated": 0,
    }
    events = list(events_of(log))
    assert [event.sequence for event in events] == list(range(1, summary.sequence + 1))
    assert events[0].kind is Kind.STARTED
    assert chain_at(log, summary.sequence) == summary.chain
    assert chain_at(log, summary.sequence + 1) is None


def test_a_copy_is_read_without_leaving_anything_beside_it(log: Path, tmp_path: Path) -> None:
    whole = tmp_path / "copy" / "log.db"
    whole.parent.mkdir()
    db = apsw.Connection(str(log))
    db.execute("VACUUM INTO ?", (str(whole),))
    db.close()
    db = apsw.Connection(str(whole))
    db.execute("PRAGMA journal_mode=WAL").fetchall()
    db.close()
    assert inspect_log(whole).executions["completed"] == 2
    assert [file.name for file in whole.parent.iterdir()] == ["log.db"]


def test_views_for_people(log: Path) -> None:
    db = schema.connect(log)
    rows = db.execute("SELECT id, workflow, status, input, outcome FROM executions").fetchall()
    assert rows == [
        ("one", "count", "completed", '{"to":3}', "3"),
        ("two", "count", "completed", '{"to":3}', "3"),
        ("three", "patient", "running", "{}", None),
    ]
    steps = db.execute(
        "SELECT step, occurrence, status, outcome FROM steps WHERE execution = 'one' ORDER BY 1, 2"
    ).fetchall()
    assert steps == [
        ("(timer)", 1, "fired", None),
        ("add", 1, "completed", "0"),
        ("add", 2, "completed", "1"),
        ("add", 3, "completed", "3"),
    ]
    kinds: list[Any] = db.execute(
        "SELECT event, at FROM timeline WHERE execution = 'three'"
    ).fetchall()
    assert [kind for kind, _ in kinds] == ["started", "timer"]
    assert all(at.endswith("Z") for _, at in kinds)
    db.close()


def test_no_connection_checkpoints(log: Path) -> None:
    size = log.stat().st_size
    wal = log.with_name("log.db-wal")
    before = wal.stat().st_size

    async def more() -> None:
        async with Engine(config(log)) as engine:
            started = await engine.start("count", {"to": 2000})
            await engine.result(started.view.id, wait=60)

    asyncio.run(more())
    assert log.stat().st_size == size, "the WAL was moved into the file"
    assert wal.stat().st_size > before + 1000 * 4096


def test_a_second_engine_is_refused(log: Path) -> None:
    async def both() -> None:
        async with Engine(config(log)):
            with pytest.raises(LogInUse):
                await Engine(config(log)).open()
        async with Engine(config(log)):
            pass

    asyncio.run(both())


def test_a_missing_log_is_never_started_empty(tmp_path: Path) -> None:
    with pytest.raises(LogMissing):
        asyncio.run(Engine(config(tmp_path / "log.db")).open())
    (tmp_path / "log.db").touch()
    with pytest.raises(LogMissing):
        asyncio.run(Engine(config(tmp_path / "log.db")).open())


def test_a_log_is_never_started_over_another(log: Path) -> None:
    asyncio.run(refused(config(log, create=True), LogRefused))


def test_another_tenants_or_lineages_log_is_refused(log: Path) -> None:
    asyncio.run(refused(config(log, lineage="other"), LogRefused))


def test_a_foreign_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    db = apsw.Connection(str(path))
    db.execute("CREATE TABLE t(a)")
    db.close()
    asyncio.run(refused(config(path), LogRefused))
    with pytest.raises(LogRefused, match="not a log"):
        inspect_log(path)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    path.write_bytes(b"hello" * 1000)
    asyncio.run(refused(config(path), LogRefused))


def closed(log: Path) -> None:
    """Everything into the one file, as a restore gives it."""
    db = apsw.Connection(str(log))
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    db.close()


def test_a_newer_log_is_refused(log: Path) -> None:
    closed(log)
    content = bytearray(log.read_bytes())
    content[60:64] = (schema.VERSION + 1).to_bytes(4, "big")
    log.write_bytes(content)
    asyncio.run(refused(config(log), LogRefused))
    with pytest.raises(LogRefused, match="newer"):
        inspect_log(log)


def test_a_corrupt_log_is_refused(log: Path) -> None:
    closed(log)
    content = bytearray(log.read_bytes())
    for page in range(1, len(content) // 4096):
        content[page * 4096 : page * 4096 + 200] = b"\xff" * 200
    log.write_bytes(content)
    asyncio.run(refused(config(log), LogDamaged))
    with pytest.raises(LogDamaged):
        inspect_log(log)


def test_a_log_cut_short_is_refused(log: Path) -> None:
    closed(log)
    log.write_bytes(log.read_bytes()[: 4096 * 3])
    asyncio.run(refused(config(log), LogDamaged))


def tamper(*statements: str) -> Callable[[Path], None]:
    def apply(log: Path) -> None:
        db = apsw.Connection(str(log))
        for statement in statements:
            db.execute(statement).fetchall()
        db.close()

    return apply


EVENT, EXECUTION = "litefleet_event", "litefleet_execution"


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (tamper(f"DELETE FROM {EVENT} WHERE sequence = 4"), "event 4 is missing"),
        (tamper(f"DELETE FROM {EVENT} WHERE sequence >= 20"), "no commit"),
        (tamper(f"DELETE FROM {EVENT} WHERE sequence >= 19"), "not listed"),
        (tamper(f"UPDATE {EVENT} SET payload = '9' WHERE sequence = 3"), "match its hash"),
        (tamper(f"UPDATE {EVENT} SET payload = 0 WHERE sequence = 3"), "match its hash"),
        (tamper(f"UPDATE {EVENT} SET payload = NULL WHERE kind = 2"), "match its hash"),
        (tamper(f"UPDATE {EVENT} SET execution = 77 WHERE sequence = 3"), "which is missing"),
        (tamper(f"UPDATE {EVENT} SET execution = 2 WHERE sequence = 3"), "before its execution"),
        (tamper(f"UPDATE {EVENT} SET kind = 99 WHERE sequence = 3"), "unknown kind 99"),
        (tamper(f"UPDATE {EVENT} SET kind = 12 WHERE sequence = 3"), "match its hash"),
        (tamper(f"UPDATE {EVENT} SET kind = 2 WHERE sequence = 3"), "ends another workflow"),
        (
            tamper(
                f"UPDATE {EVENT} SET kind = 2, occurrence = 1,"
                " name = (SELECT name FROM litefleet_event WHERE sequence = 1) WHERE sequence = 3"
            ),
            "after its execution's end",
        ),
        (tamper(f"UPDATE {EVENT} SET name = 99 WHERE sequence = 3"), "which is missing"),
        (tamper(f"UPDATE {EVENT} SET occurrence = 2 WHERE sequence = 3"), "no intent"),
        (tamper(f"UPDATE {EVENT} SET occurrence = 2 WHERE sequence = 2"), "out of order"),
        (tamper(f"UPDATE {EVENT} SET occurrence = 1 WHERE sequence = 5"), "a second outcome"),
        (tamper(f"UPDATE {EVENT} SET back = 2 WHERE sequence = 3"), "does not follow"),
        (tamper("UPDATE litefleet_name SET name = 'sub' WHERE name = 'add'"), "match its hash"),
        (tamper("INSERT INTO litefleet_name VALUES (99, 'add')"), "two numbers"),
        (tamper(f"UPDATE {EVENT} SET at = at + 1 WHERE sequence = 4"), "match its hash"),
        (tamper(f"UPDATE {EVENT} SET at = 1 WHERE at > 1 AND sequence > 4"), "back in time"),
        (tamper(f"UPDATE {EVENT} SET at = 'now' WHERE sequence = 4"), "back in time"),
        (tamper(f"UPDATE {EVENT} SET at = NULL WHERE sequence = 4"), "half a seal"),
        (tamper(f"UPDATE {EVENT} SET chain = NULL WHERE sequence = 4"), "half a seal"),
        (tamper(f"UPDATE {EVENT} SET at = 9e12 WHERE sequence = 4"), "match its hash"),
        (tamper(f"UPDATE {EVENT} SET chain = 'x' WHERE sequence = 4"), "match its hash"),
        (tamper(f"UPDATE {EVENT} SET chain = x'00' WHERE sequence = 4"), "match its hash"),
        (tamper(f"UPDATE {EVENT} SET at = NULL, chain = NULL WHERE sequence = 4"), "no commit"),
        (tamper(f"UPDATE {EVENT} SET at = NULL, chain = NULL WHERE sequence = 6"), "no commit"),
        (tamper("INSERT INTO litefleet_commit VALUES (900, 9e15, x'00')"), "not all here"),
        (tamper(f"UPDATE {EXECUTION} SET status = 2 WHERE id = 1"), "not listed"),
        (tamper(f"UPDATE {EXECUTION} SET closed = NULL WHERE id = 1"), "not listed"),
        (tamper(f"UPDATE {EXECUTION} SET key = 'eins' WHERE id = 1"), "match its hash"),
        (tamper(f"DELETE FROM {EXECUTION} WHERE id = 1"), "which is missing"),
        (tamper(f"INSERT INTO {EXECUTION} VALUES (9, 'x', 1, 1, 1, 1)"), "has no events"),
        (tamper("UPDATE litefleet_meta SET value = 'x' WHERE key = 'tenant'"), "beginning"),
        (tamper("DELETE FROM litefleet_meta"), "lacks"),
        (tamper("DROP TABLE litefleet_commit"), "no such table"),
    ],
)
def test_every_kind_of_damage_is_found(
    log: Path, break_it: Callable[[Path], None], words: str
) -> None:
    inspect_log(log)
    break_it(log)
    with pytest.raises(LogDamaged, match=words):
        inspect_log(log)


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (tamper("UPDATE litefleet_commit SET at = at + 1 WHERE sequence > 0"), "match its hash"),
        (tamper("UPDATE litefleet_commit SET at = 1 WHERE sequence > 0"), "back in time"),
        (tamper("UPDATE litefleet_commit SET at = 'x' WHERE sequence > 0"), "back in time"),
        (tamper("UPDATE litefleet_commit SET chain = 7 WHERE sequence > 0"), "match its hash"),
        (tamper("DELETE FROM litefleet_commit WHERE sequence > 0"), "no commit"),
        (tamper("INSERT INTO litefleet_commit VALUES (3, 9e12, x'00')"), "back in time|its hash"),
        # Lookups would take the seal of a later event for that of the lost commit.
        (tamper("UPDATE litefleet_commit SET sequence = sequence - 1 WHERE sequence > 0"), "hash"),
        (tamper("DELETE FROM litefleet_commit WHERE sequence = 0"), "beginning"),
    ],
)
def test_damage_to_the_commits_that_have_rows_is_found(
    tmp_path: Path, break_it: Callable[[Path], None], words: str
) -> None:
    path = tmp_path / "log.db"

    async def write_at_once() -> None:
        async with Engine(config(path, create=True)) as engine:
            ids = [f"many-{number}" for number in range(4)]
            await asyncio.gather(*(engine.start("count", {"to": 1}, id=id) for id in ids))
            for id in ids:
                await engine.result(id, wait=10)

    asyncio.run(write_at_once())
    inspect_log(path)
    break_it(path)
    with pytest.raises(LogDamaged, match=words):
        inspect_log(path)


def test_an_engine_does_not_open_a_log_whose_end_was_changed(log: Path) -> None:
    last = inspect_log(log).sequence
    tamper(f"UPDATE {EVENT} SET payload = 1 WHERE sequence = {last}")(log)
    with pytest.raises(LogDamaged, match="does not match its hash"):
        asyncio.run(Engine(config(log)).open())


def test_a_log_and_its_continuation_are_told_from_a_fork(log: Path, tmp_path: Path) -> None:
    fork = tmp_path / "fork"
    shutil.copytree(log.parent, fork, ignore=shutil.ignore_patterns("fork"))
    before = inspect_log(log)

    async def go_on(path: Path) -> None:
        async with Engine(config(path)) as engine:
            await engine.start("count", {})

    asyncio.run(go_on(log))
    asyncio.run(go_on(fork / "log.db"))
    mine, other = inspect_log(log), inspect_log(fork / "log.db")
    assert chain_at(log, before.sequence) == chain_at(fork / "log.db", before.sequence)
    assert chain_at(log, other.sequence) != other.chain
    assert mine.chain != other.chain
