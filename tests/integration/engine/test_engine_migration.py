"""A log of an older version goes on; one of a newer version is refused, wherever it says so."""

from __future__ import annotations

import asyncio
import gzip
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from node.engine import schema
from node.engine.engine import Engine, EngineConfig
from node.engine.errors import LogDamaged, LogRefused
from node.engine.events import Kind, Status
from node.engine.inspection import chain_at, events_of, inspect_log
from tests.integration.engine.fixtures.old_app import APP

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(params=[1, 2])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A log of each older version. They were written by that version's last engine, with one
    application; the later one has commits of many events as well."""
    path = tmp_path / "log.db"
    path.write_bytes(gzip.decompress((FIXTURES / f"version{request.param}.db.gz").read_bytes()))
    return path


def config(path: Path) -> EngineConfig:
    return EngineConfig(path=path, application=APP, tenant="acme", lineage="line")


def version(path: Path) -> int:
    db = schema.connect(path)
    try:
        return int(db.pragma("user_version"))
    finally:
        db.close()


def test_an_old_log_is_migrated_and_goes_on(old: Path) -> None:
    before = inspect_log(old)
    assert before.executions["running"] == 2
    old_events = list(events_of(old))

    async def test() -> None:
        async with Engine(config(old)) as engine:
            assert engine.execution("one").result == 5
            assert engine.execution("two").status is Status.FAILED
            assert (await engine.result("three", wait=20)).result == "three 5"
            assert engine.events("four")[-1].kind is Kind.STEP_RETRY
            started = await engine.start("count", {"to": 2})
            assert (await engine.result(started.view.id, wait=20)).status is Status.COMPLETED

    asyncio.run(test())
    assert version(old) == schema.VERSION
    assert chain_at(old, before.sequence) == before.chain
    assert list(events_of(old))[: len(old_events)] == old_events
    after = inspect_log(old)
    assert after.executions["running"] == 1
    assert after.executions["completed"] == before.executions["completed"] + 2
    db = schema.connect(old)
    assert db.execute("SELECT count(at) FROM timeline").fetchall() == [(after.sequence,)]
    db.close()


def test_commits_of_an_old_log_stay_as_they_are(old: Path) -> None:
    def commits() -> list[tuple[int, int, bytes]]:
        with closing(schema.connect(old)) as db:
            rows: Any = db.execute("SELECT * FROM litefleet_commit ORDER BY 1").fetchall()
            return list(rows)

    before, summary = commits(), inspect_log(old)
    schema.migrate(old)
    assert commits() == before
    assert inspect_log(old) == summary
    # They are still covered by their hashes, whatever the newer ones are like.
    with closing(schema.connect(old)) as db:
        db.execute("UPDATE litefleet_commit SET at = at + 1 WHERE sequence = ?", (before[2][0],))
    with pytest.raises(LogDamaged, match="match its hash"):
        inspect_log(old)


def test_a_new_commit_cannot_pass_as_an_old_one(old: Path) -> None:
    before = inspect_log(old)

    async def go_on() -> None:
        async with Engine(config(old)) as engine:
            await engine.start("count", {"to": 5}, id="new")
            await engine.result("new", wait=20)

    asyncio.run(go_on())
    with closing(schema.connect(old)) as db:
        row: Any = db.execute(
            "SELECT max(sequence) FROM litefleet_event WHERE sequence > ? AND at > 0",
            (before.sequence,),
        ).fetchall()
        db.execute("UPDATE litefleet_event SET chain = zeroblob(16) WHERE sequence = ?", row[0])
    with pytest.raises(LogDamaged, match="match its hash"):
        inspect_log(old)


def test_of_two_migrations_at_once_the_later_one_finds_it_done(old: Path) -> None:
    code = "import sys; from pathlib import Path; from node.engine import schema;"
    code += " schema.migrate(Path(sys.argv[1]))"
    with closing(schema.connect(old)) as db:
        # Both wait for the lock, and then one for the other.
        db.execute("BEGIN IMMEDIATE")
        both = [subprocess.Popen([sys.executable, "-c", code, str(old)]) for _ in range(2)]
        time.sleep(0.7)
        db.execute("COMMIT")
    assert [process.wait(timeout=20) for process in both] == [0, 0]
    assert version(old) == schema.VERSION
    inspect_log(old)


def test_a_migration_that_is_interrupted_leaves_the_old_log(old: Path) -> None:
    was = version(old)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "_VIEWS", schema._VIEWS + "SELECT no_such_function();")
        with pytest.raises(apsw.Error):
            schema.migrate(old)
    assert version(old) == was
    assert inspect_log(old).executions["running"] == 2
    schema.migrate(old)
    assert version(old) == schema.VERSION


def test_a_foreign_tenants_old_log_is_not_migrated(old: Path) -> None:
    was = version(old)
    other = EngineConfig(path=old, application=APP, tenant="other", lineage="line")
    with pytest.raises(LogRefused):
        asyncio.run(Engine(other).open())
    assert version(old) == was


def test_a_newer_version_that_is_only_in_the_wal_is_refused(old: Path) -> None:
    db = schema.connect(old)
    db.execute(f"PRAGMA user_version={schema.VERSION + 1}")
    db.close()
    assert int.from_bytes(old.read_bytes()[60:64], "big") < schema.VERSION
    with pytest.raises(LogRefused, match="newer"):
        asyncio.run(Engine(config(old)).open())
    with pytest.raises(LogRefused, match="newer"):
        inspect_log(old)
