"""Statements from outside: they read, what they may, for as long as they may."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from node import activity, workflow
from node.engine import sql_guide
from node.engine.errors import EngineStopped, StatementRefused, StatementTooSlow
from node.engine.schema import OWN_VIEWS, connect
from node.engine.selection import Selection
from node.engine.sql import ask
from tests.integration.engine.harness import application, engine, go

ENDLESS = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c"


@activity(transactional=True)
def notes(text: str) -> None:
    rows = activity.transaction()
    rows.execute("CREATE TABLE IF NOT EXISTS note(text TEXT)")
    rows.execute("INSERT INTO note VALUES (?)", (text,))


@workflow
async def writes(text: str) -> str:
    await notes(text)
    return text


APP = application(notes, writes)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("log")

    async def fill() -> None:
        async with engine(folder, APP) as it:
            await it.start("writes", {"text": "a"}, id="a", labels={"customer": "acme"})
            await it.result("a", wait=10)

    go(fill())
    return folder / "log.db"


@pytest.fixture
def db(log: Path) -> Iterator[apsw.Connection]:
    with closing(connect(log)) as connection:
        yield connection


def test_views_and_own_tables_can_be_read(db: apsw.Connection) -> None:
    found = ask(db, "SELECT id, labels ->> 'customer' AS c FROM executions", rows=10, seconds=5)
    assert (found.columns, found.rows, found.truncated) == (["id", "c"], [("a", "acme")], False)
    assert found.sequence > 3
    assert ask(db, "SELECT text FROM note WHERE text = ?", ["a"], rows=1, seconds=5).rows == [
        ("a",)
    ]
    named = ask(db, "SELECT :x, :y", {"x": 1, "y": None}, rows=1, seconds=5)
    assert named.rows == [(1, None)]
    counted = "WITH c AS (SELECT * FROM steps) SELECT count(*) FROM c; -- all"
    assert ask(db, counted, rows=1, seconds=5).rows == [(1,)]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM litefleet_meta",
        "SELECT count(*) FROM litefleet_meta",
        "SELECT (SELECT value FROM Litefleet_Meta WHERE key = 'secret')",
        "WITH m AS (SELECT * FROM main.litefleet_meta) SELECT * FROM m",
        "SELECT 1 FROM executions WHERE EXISTS (SELECT 1 FROM litefleet_meta WHERE value > 'a')",
        "SELECT * FROM dbstat",
        "SELECT * FROM sqlite_dbpage",
        "DELETE FROM litefleet_event",
        "DELETE FROM litefleet_event RETURNING *",
        "INSERT INTO note VALUES ('b')",
        "UPDATE litefleet_execution SET status = 1",
        "CREATE TABLE more(x)",
        "CREATE TEMP TABLE more(x)",
        "DROP TABLE note",
        "ATTACH '/tmp/other.db' AS other",
        "VACUUM",
        "VACUUM INTO '/tmp/copy.db'",
        "REINDEX",
        "ANALYZE",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "PRAGMA journal_mode=DELETE",
        "PRAGMA wal_autocheckpoint=1000",
        "PRAGMA writable_schema=ON",
        "SELECT * FROM pragma_integrity_check",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT s",
        "SELECT load_extension('x')",
        "SELECT 1; SELECT 2",
        "SELECT zeroblob(900000000)",
        "nonsense",
        "",
        "-- nothing",
        "SELECT ?",
        "SELECT :missing",
    ],
)
def test_what_does_not_only_read_is_refused(db: apsw.Connection, statement: str) -> None:
    with pytest.raises(StatementRefused):
        ask(db, statement, {} if ":" in statement else (), rows=10, seconds=5)
    # Nothing is left behind, and the connection is as it was.
    assert not db.in_transaction
    assert db.pragma("wal_autocheckpoint") == 0
    assert db.pragma("journal_mode") == "wal"


def test_rows_and_bytes_are_limited(db: apsw.Connection) -> None:
    many = "SELECT value FROM json_each('[1,2,3,4,5]')"
    found = ask(db, many, rows=3, seconds=5)
    assert (len(found.rows), found.truncated) == (3, True)
    assert ask(db, many, rows=5, seconds=5).truncated is False
    large = "SELECT hex(zeroblob(1000)) FROM json_each('[1,2,3,4,5]')"
    found = ask(db, large, rows=100, seconds=5, size=5000)
    assert (len(found.rows), found.truncated) == (2, True)


def test_a_statement_is_cut_off_after_its_time(db: apsw.Connection) -> None:
    times = iter(range(1_000_000))
    with pytest.raises(StatementTooSlow, match="after 3 s"):
        ask(db, ENDLESS, rows=1, seconds=3, timer=lambda: next(times))
    assert not db.in_transaction


def test_a_reader_never_holds_up_the_writer(tmp_path: Path) -> None:
    """A statement that would run for ever, while executions go on; then the log can be folded."""

    async def main() -> None:
        async with engine(tmp_path, APP) as it:
            slow = [asyncio.create_task(it.sql(ENDLESS, seconds=0.6)) for _ in range(4)]
            await asyncio.sleep(0.05)
            worst, done = 0.0, 0
            while not all(task.done() for task in slow):
                begun = time.monotonic()
                await it.start("writes", {"text": "x"}, id=f"w{done}")
                assert (await it.result(f"w{done}", wait=10)).result == "x"
                worst, done = max(worst, time.monotonic() - begun), done + 1
            for task in slow:
                with pytest.raises(StatementTooSlow):
                    await task
            assert done > 10
            # Not one waited for a reader to be cut off.
            assert worst < 0.5
            # Nobody stands on an old state: all of the write-ahead log can be taken in.
            db = apsw.Connection(str(tmp_path / "log.db"))
            ((busy, frames, folded),) = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            db.close()
            assert (busy, frames) == (0, folded)
            found = await it.sql("SELECT count(*) FROM executions")
            assert found.rows == [(done,)]
            assert found.sequence == it.sequence

    asyncio.run(main())


def test_an_engine_that_closes_waits_for_no_reader(tmp_path: Path) -> None:
    async def main() -> None:
        async with engine(tmp_path, APP) as it:
            slow = [asyncio.create_task(it.sql(ENDLESS, seconds=10)) for _ in range(3)]
            await asyncio.sleep(0.1)
            # Others are not kept waiting by them.
            assert (await it.find(Selection())) == ([], None)
            begun = time.monotonic()
        assert time.monotonic() - begun < 5
        for task in slow:
            with pytest.raises((StatementTooSlow, EngineStopped, asyncio.CancelledError)):
                await task

    asyncio.run(main())


# -- the guide -----------------------------------------------------------------------------------


def undescribed(db: apsw.Connection, views: Any) -> list[str]:
    """Columns that only the guide has, or only our views."""
    told = {view.name: set(view.columns) for view in views}
    there = {name: set(sql_guide.columns_of(db, name)) for name in OWN_VIEWS}
    return sorted(
        f"{name}.{column}"
        for name in told.keys() | there.keys()
        for column in told.get(name, set()) ^ there.get(name, set())
    )


def test_the_guide_describes_every_column(db: apsw.Connection) -> None:
    assert undescribed(db, sql_guide.VIEWS) == []
    (note,) = sql_guide.own_tables(db)
    assert (note.name, note.columns) == ("note", {"text": "text"})


def test_a_column_that_is_not_described_is_noticed(db: apsw.Connection) -> None:
    view = sql_guide.VIEWS[0]
    short = view._replace(columns={k: v for k, v in view.columns.items() if k != "labels"})
    assert undescribed(db, (short, *sql_guide.VIEWS[1:])) == ["executions.labels"]


@pytest.mark.parametrize(("question", "statement"), sql_guide.EXAMPLES)
def test_every_example_can_be_asked(db: apsw.Connection, question: str, statement: str) -> None:
    assert question.endswith("?")
    ask(db, statement, rows=10, seconds=5)
