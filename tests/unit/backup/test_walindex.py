"""Who reads a database, and since which frame, seen from outside."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from backup.usage import Meter
from backup.walindex import LongReaders, Look, Slot, WalIndex

READER = """
import sys, apsw
db = apsw.Connection(sys.argv[1])
db.execute("PRAGMA wal_autocheckpoint=0")
for line in sys.stdin:
    db.execute(line).fetchall()
    print("done", flush=True)
"""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[apsw.Connection]:
    connection = apsw.Connection(str(tmp_path / "log.db"))
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    connection.execute("CREATE TABLE t(a)")
    yield connection
    connection.close()


class Reader:
    """Another process with a connection."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", READER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def say(self, sql: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(sql + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def close(self) -> None:
        self.process.communicate()


def test_a_reader_is_seen_for_as_long_as_it_reads(
    tmp_path: Path, database: apsw.Connection
) -> None:
    index = WalIndex(tmp_path / "log.db")
    before = index.look()
    assert before is not None
    assert before.slots == ()
    reader = Reader(tmp_path / "log.db")
    reader.say("BEGIN")
    reader.say("SELECT * FROM t")
    database.execute("INSERT INTO t VALUES (1)")
    during = index.look()
    assert during is not None
    assert [(slot.mark, slot.pid) for slot in during.slots] == [(before.newest, reader.process.pid)]
    assert during.newest > before.newest
    reader.say("COMMIT")
    after = index.look()
    assert after is not None
    assert after.slots == ()
    reader.close()


def test_frames_are_counted_in_bytes_also_over_a_new_beginning(
    tmp_path: Path, database: apsw.Connection
) -> None:
    index, meter = WalIndex(tmp_path / "log.db"), Meter(tmp_path / "log.db", full_upload_least=1)
    assert meter.look(index.look(), 0).committed_bytes == 0
    wal = tmp_path / "log.db-wal"
    size = wal.stat().st_size
    for _ in range(5):
        database.execute("INSERT INTO t VALUES (zeroblob(9000))")
    grown = wal.stat().st_size - size
    assert meter.look(index.look(), 0).committed_bytes == grown
    database.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
    database.execute("INSERT INTO t VALUES (1)")
    usage = meter.look(index.look(), 0)
    # The file has not become smaller, but its frames are counted anew.
    assert wal.stat().st_size == size + grown
    assert grown < usage.committed_bytes < grown + 5 * 4120


def test_without_a_database_there_is_nothing_to_see(tmp_path: Path) -> None:
    assert WalIndex(tmp_path / "log.db").look() is None
    assert Meter(tmp_path / "log.db", full_upload_least=1).look(None, 0).database == 0


def test_what_is_uploaded_is_counted_by_its_local_copies(tmp_path: Path) -> None:
    files = tmp_path / ".log.db-litestream" / "ltx" / "0"
    files.mkdir(parents=True)
    (tmp_path / "log.db").write_bytes(bytes(10_000))

    def upload(number: int, size: int) -> None:
        (files / f"{number:016x}-{number:016x}.ltx").write_bytes(bytes(size))

    upload(1, 9000)
    meter = Meter(tmp_path / "log.db", full_upload_least=100)
    assert meter.look(None, 1).uploaded_bytes == 0
    upload(2, 300)
    upload(3, 6000)
    usage = meter.look(None, 2)
    assert (usage.uploaded_bytes, usage.full_uploads) == (6300, 1)
    assert (usage.unreplicated_bytes, usage.metadata) == (6000, 15_300)
    for file in files.iterdir():
        file.unlink()
    usage = meter.look(None, 3)
    assert (usage.uploaded_bytes, usage.unreplicated_bytes, usage.metadata) == (6300, 0, 0)


def look(*slots: tuple[int, int, int], newest: int = 100) -> Look:
    return Look(newest, tuple(Slot(*slot) for slot in slots))


def test_only_a_reader_that_stays_and_is_behind_counts() -> None:
    readers = LongReaders()
    assert readers.seen(look((1, 90, 7)), 0.0, apart_from=None) == 0.0
    assert readers.seen(look((1, 90, 7)), 5.0, apart_from=None) == 5.0
    assert readers.pids == (7,)
    # The same place with another frame, or held by another process, is another reader.
    assert readers.seen(look((1, 95, 7)), 6.0, apart_from=None) == 0.0
    assert readers.seen(look((1, 95, 8)), 7.0, apart_from=None) == 0.0
    # One that sees all there is holds nothing back.
    assert readers.seen(look((1, 100, 8)), 60.0, apart_from=None) == 0.0
    assert not readers.pids


def test_the_sidecar_may_read_for_as_long_as_it_likes() -> None:
    readers = LongReaders()
    for now in (0.0, 100.0):
        assert readers.seen(look((1, 90, 7)), now, apart_from=7) == 0.0
    assert readers.seen(None, 200.0, apart_from=7) == 0.0
