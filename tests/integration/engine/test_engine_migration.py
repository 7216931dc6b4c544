"""A log of an older version goes on; one of a newer version is refused, wherever it says so."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import apsw
import pytest

from node.engine import schema
from node.engine.engine import Engine, EngineConfig
from node.engine.errors import LogRefused
from node.engine.events import Kind, Status
from node.engine.inspection import chain_at, events_of, inspect_log
from tests.integration.engine.fixtures.version1_app import APP

FIXTURE = Path(__file__).parent / "fixtures" / "version1.db.gz"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "log.db"
    path.write_bytes(gzip.decompress(FIXTURE.read_bytes()))
    return path


def config(path: Path) -> EngineConfig:
    return EngineConfig(path=path, application=APP, tenant="acme", lineage="line")


def version(path: Path) -> int:
    db = schema.connect(path)
    try:
        return int(db.pragma("user_version"))
    finally:
        db.close()


def test_a_version_1_log_is_migrated_and_goes_on(old: Path) -> None:
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
    assert (after.executions["running"], after.executions["completed"]) == (1, 3)
    db = schema.connect(old)
    assert db.execute("SELECT count(*) FROM timeline").fetchall() == [(after.sequence,)]
    db.close()


def test_a_migration_that_is_interrupted_leaves_the_old_log(old: Path, monkeypatch: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "_VIEWS", schema._VIEWS + "SELECT no_such_function();")
        with pytest.raises(apsw.Error):
            schema.migrate(old)
    assert version(old) == 1
    assert inspect_log(old).executions["running"] == 2
    schema.migrate(old)
    assert version(old) == schema.VERSION


def test_a_foreign_tenants_old_log_is_not_migrated(old: Path) -> None:
    other = EngineConfig(path=old, application=APP, tenant="other", lineage="line")
    with pytest.raises(LogRefused):
        asyncio.run(Engine(other).open())
    assert version(old) == 1


def test_a_newer_version_that_is_only_in_the_wal_is_refused(old: Path) -> None:
    db = schema.connect(old)
    db.execute(f"PRAGMA user_version={schema.VERSION + 1}")
    db.close()
    assert int.from_bytes(old.read_bytes()[60:64], "big") == 1
    with pytest.raises(LogRefused, match="newer"):
        asyncio.run(Engine(config(old)).open())
    with pytest.raises(LogRefused, match="newer"):
        inspect_log(old)
