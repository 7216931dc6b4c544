"""Independent copies: whole, checked, recorded, and let go in time."""

from __future__ import annotations

import gzip
import hashlib
import threading
from pathlib import Path

import apsw
import pytest

from backup import copies, keys
from backup.copies import BadCopy, Copy
from backup.errors import Ambiguous, StoreError
from backup.memory import MemoryStore

DAY = 86_400.0


def about(made_at: float = 1_700_000_000.0, sequence: int = 7) -> Copy:
    return Copy(
        tenant="t",
        lineage="l",
        epoch=2,
        sequence=sequence,
        chain="aa",
        made_at=made_at,
        sha256="",
        size=0,
        packed=0,
    )


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "log.db"
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    connection.execute("CREATE TABLE t(a); INSERT INTO t VALUES (randomblob(100000))")
    connection.close()
    return path


def test_a_copy_is_read_back_with_plain_tools(tmp_path: Path, database: Path) -> None:
    store = MemoryStore()
    made = copies.put(store, database, about(), tmp_path)
    assert copies.read(store, "t") == [made]
    body = gzip.decompress(store.get(keys.copy("t", made.name)).body)
    assert body == database.read_bytes()
    assert (hashlib.sha256(body).hexdigest(), len(body)) == (made.sha256, made.size)
    copies.fetch(store, made, tmp_path / "back.db")
    assert (tmp_path / "back.db").read_bytes() == body
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "log.db-shm") == [
        "back.db",
        "log.db",
    ]


def test_a_snapshot_of_a_busy_database_is_of_one_moment(tmp_path: Path, database: Path) -> None:
    connection = apsw.Connection(str(database))
    connection.execute("PRAGMA wal_autocheckpoint=0")
    connection.execute("CREATE TABLE pair(a, b)")
    connection.execute("INSERT INTO pair VALUES (0, 0)")
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            number += 1
            connection.execute("UPDATE pair SET a = ?, b = ?", (number, number))

    writer = threading.Thread(target=write)
    writer.start()
    size = (tmp_path / "log.db").stat().st_size
    try:
        for number in range(10):
            into = tmp_path / f"copy-{number}"
            copies.snapshot(database, into)
            copy = apsw.Connection(str(into), flags=apsw.SQLITE_OPEN_READONLY)
            (pair,) = copy.execute("SELECT a, b FROM pair").fetchall()
            assert pair[0] == pair[1]
            assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            copy.close()
        # And it has not checkpointed the source, which another one would see.
        assert (tmp_path / "log.db").stat().st_size == size
    finally:
        done.set()
        writer.join()
        connection.close()


@pytest.mark.parametrize("spoiled", ["another", "truncated", "garbled", "broken"])
def test_a_copy_that_is_not_what_it_was_is_refused(
    tmp_path: Path, database: Path, spoiled: str
) -> None:
    store = MemoryStore()
    made = copies.put(store, database, about(), tmp_path)
    key = keys.copy("t", made.name)
    body = store.get(key).body
    bad = {
        "another": gzip.compress(b"another file"),
        "truncated": body[: len(body) // 2],
        "broken": body[:20] + b"\xff" * 100 + body[120:],
        "garbled": body[:5000] + b"\x00" * 100 + body[5100:],
    }[spoiled]
    store.put(key, bad)
    with pytest.raises(BadCopy):
        copies.fetch(store, made, tmp_path / "back.db")
    assert not (tmp_path / "back.db").exists()
    assert not (tmp_path / "back.db.packed").exists()


@pytest.mark.parametrize("operation", ["put", "get"])
def test_what_did_not_get_there_is_not_recorded(
    tmp_path: Path, database: Path, operation: str
) -> None:
    store = MemoryStore()
    store.fault = lambda op, _key: Ambiguous("lost") if op == operation else None
    with pytest.raises(StoreError):
        copies.put(store, database, about(), tmp_path)
    store.fault = None
    assert copies.read(store, "t") == []


def test_old_copies_go_and_the_newest_stay() -> None:
    made = [about(made_at=day * DAY, sequence=day) for day in range(10)]
    now = 10 * DAY
    assert [copy.sequence for copy in copies.expired(made, now, 7, 1)] == [0, 1, 2]
    assert [copy.sequence for copy in copies.expired(made, now, 7, 8)] == [0, 1]
    assert copies.expired(made, now, 30, 1) == []
    # However old: the last one is never let go.
    assert [copy.sequence for copy in copies.expired(made, 1000 * DAY, 7, 0)] == list(range(9))
    assert copies.expired(made[:1], 1000 * DAY, 7, 0) == []


def test_a_removed_copy_is_gone_even_if_that_is_cut_off(tmp_path: Path, database: Path) -> None:
    store = MemoryStore()
    made = copies.put(store, database, about(), tmp_path)
    gone = iter([None])
    store.fault = lambda op, _key: (
        Ambiguous("lost") if op == "delete" and next(gone, "over") == "over" else None
    )
    with pytest.raises(StoreError):
        copies.remove(store, made)
    assert copies.read(store, "t") == []
    store.fault = None
    copies.remove(store, made)
    assert store.objects == {}
