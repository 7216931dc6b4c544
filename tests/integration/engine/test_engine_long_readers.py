"""A reader that takes too long is cut off: while it is open the WAL cannot be reused."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import httpx
import pytest

from node import workflow
from node.api import create_api
from node.engine import inspection
from node.engine.errors import LogInUse, LogRefused, ReadTooLong
from node.engine.inspection import events_of, inspect_log
from node.engine.lock import in_use, lock
from tests.integration.engine.harness import application, engine, go

LONG = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT max(n) FROM c"


@workflow
async def work(number: int) -> int:
    for _ in range(3):
        await workflow.sleep(0)
    return number


def test_a_statement_has_seconds_and_then_an_error(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, application(work)) as it:
            store = it._store
            assert store.patience == 5.0
            store.patience = 0.01
            with pytest.raises(ReadTooLong, match=r"longer than 0\.01 s"):
                store.rows(LONG)
            # The next one has its own time, and the engine's own reads are never cut off.
            await it.start("work", {"number": 1}, id="a")
            assert (await it.result("a", wait=20)).result == 1
            limited = LONG.replace("FROM c)", "FROM c WHERE n < 400000)")
            store.patience = 0.0
            assert store.patiently(store.rows)(limited) == [(400000,)]
            with pytest.raises(ReadTooLong):
                store.rows(limited)

    go(test())


def test_patience_begins_anew_with_each_reading(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, application(work)) as it:
            for number in range(2000):
                await it.start("work", {"number": number}, id=f"w{number}")
            store = it._store
            store.patience = 0.5
            assert store.rows("SELECT 1") == [(1,)]
            await asyncio.sleep(0.6)
            # None of these is cut off for what was read before.
            assert len(it.executions(limit=2000)) == 2000
            assert list(store.reader.execute(LONG.replace("FROM c)", "FROM c WHERE n < 9000)")))
            assert it.events("w7")
            store.patience = 0.0
            with pytest.raises(ReadTooLong):
                it.executions(limit=2000)

    go(test())


def test_over_http_it_is_told_what_to_do(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, application(work)) as it:
            for number in range(3):
                await it.start("work", {"number": number}, id=f"w{number}")
                await it.result(f"w{number}", wait=20)
            it._store.find = lambda _: it._store.rows(LONG)  # type: ignore[assignment,return-value]
            it._store.patience = 0.01
            transport = httpx.ASGITransport(app=create_api(it))
            async with httpx.AsyncClient(transport=transport, base_url="http://engine") as client:
                answer = await client.get("/executions/w0")
            assert answer.status_code == 422
            error = answer.json()["error"]
            assert error["type"] == "read_too_long"
            assert "Ask for less" in error["hint"]

    go(test())


def test_who_reads_a_log_in_use_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.db"

    async def test() -> None:
        async with engine(tmp_path, application(work)) as it:
            for number in range(300):
                await it.start("work", {"number": number}, id=f"w{number}")
            assert in_use(path)
            monkeypatch.setattr(inspection, "PATIENCE", 0.0)
            for read in (lambda: list(events_of(path)), lambda: inspect_log(path)):
                with pytest.raises(LogRefused, match="is in use"):
                    read()
            # Whoever knows better says so.
            assert inspect_log(path, closed=True).sequence > 300
        assert not in_use(path)
        assert len(list(events_of(path))) > 300

    go(test())


def test_looking_whether_a_log_is_in_use_refuses_no_engine(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    held = lock(path)
    assert in_use(path)
    with pytest.raises(LogInUse):
        lock(path)
    os.close(held)
    assert not in_use(path)
    assert not in_use(tmp_path / "none" / "log.db")
