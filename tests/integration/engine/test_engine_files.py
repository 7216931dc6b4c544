"""Two engines on one file, and files that are no log: refused, in words, and left as they are."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from node import activity, workflow
from node.engine import schema
from node.engine.errors import EngineError, LogDamaged, LogInUse, LogMissing, LogRefused
from node.engine.inspection import chain_at, events_of, inspect_log
from tests.integration.engine.harness import application, engine, go

ROOT = Path(__file__).parents[3]


@activity
async def double(number: int) -> int:
    return 2 * number


@workflow
async def doubled(number: int) -> int:
    return await double(number) + 1


APP = application(double, doubled)

OTHER = """
import asyncio, sys
from pathlib import Path
from tests.integration.engine.harness import engine
from tests.integration.engine.test_engine_files import APP

async def main():
    async with engine(Path(sys.argv[1]), APP) as it:
        await it.start("doubled", {"number": 1}, id="first")
        await it.result("first", wait=20)
        print("open", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


def write(folder: Path) -> Path:
    """A log with some executions that ended, its newest commits in the WAL."""
    folder.mkdir(exist_ok=True)

    async def some() -> None:
        async with engine(folder, APP) as it:
            for number in range(20):
                await it.start("doubled", {"number": number}, id=f"e{number}")
                await it.result(f"e{number}", wait=20)

    go(some())
    return folder / "log.db"


def closed(log: Path) -> None:
    """Everything into the one file, as a restore gives it."""
    db = apsw.Connection(str(log))
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    db.close()


def test_an_engine_of_another_process_is_refused_until_that_is_killed(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        before = inspect_copy(tmp_path)

        async def refused() -> None:
            for _ in range(3):
                with pytest.raises(LogInUse, match="another engine"):
                    await engine(tmp_path, APP).open()

        go(refused())
        assert inspect_copy(tmp_path) == before
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    async def at_once() -> None:
        async with engine(tmp_path, APP) as it:
            assert (await it.result("first")).result == 3

    go(at_once())
    inspect_log(tmp_path / "log.db")


def inspect_copy(folder: Path) -> object:
    copy = folder / "copy"
    copy.mkdir(exist_ok=True)
    for end in ("", "-wal"):
        shutil.copy(folder / f"log.db{end}", copy / f"log.db{end}")
    return inspect_log(copy / "log.db")


def content(folder: Path) -> dict[str, bytes | None]:
    """What the files of a log hold, but for the lock, the index and an empty WAL: they hold
    nothing, and whoever looks at a database makes them."""
    return {
        path.name: path.read_bytes() if path.is_file() else None
        for path in folder.iterdir()
        if not path.name.endswith((".lock", "-shm"))
        and not (path.name.endswith("-wal") and not path.stat().st_size)
    }


def empty(log: Path) -> None:
    log.write_bytes(b"")
    Path(f"{log}-wal").unlink()


def is_text(log: Path) -> None:
    closed(log)
    log.write_text("this is a diary\n" * 1000)


def is_a_folder(log: Path) -> None:
    shutil.rmtree(log.parent)
    log.mkdir(parents=True)


def is_of_another_application(log: Path) -> None:
    shutil.rmtree(log.parent)
    log.parent.mkdir()
    db = apsw.Connection(str(log))
    db.execute("CREATE TABLE t(a); INSERT INTO t VALUES (1); PRAGMA application_id=7")
    db.close()


def is_newer(log: Path) -> None:
    closed(log)
    db = apsw.Connection(str(log))
    db.execute(f"PRAGMA user_version={schema.VERSION + 1}")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    db.close()


def is_newer_in_its_wal(log: Path) -> None:
    """The file's own header does not say so yet."""
    db = schema.connect(log)
    db.execute(f"PRAGMA user_version={schema.VERSION + 1}")
    db.close()


def has_a_header_cut_short(log: Path) -> None:
    closed(log)
    log.write_bytes(log.read_bytes()[:64])


def is_cut_short(log: Path) -> None:
    closed(log)
    log.write_bytes(log.read_bytes()[: 5 * 4096])


def is_cut_in_a_page(log: Path) -> None:
    closed(log)
    log.write_bytes(log.read_bytes()[: 5 * 4096 + 100])


def has_its_page_size_flipped(log: Path) -> None:
    flip(log, 16)


def flip(log: Path, *places: int) -> None:
    closed(log)
    data = bytearray(log.read_bytes())
    for place in places:
        data[place] ^= 0xFF
    log.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (empty, LogMissing),
        (is_text, LogRefused),
        (is_a_folder, LogRefused),
        (is_of_another_application, LogRefused),
        (is_newer, LogRefused),
        (is_newer_in_its_wal, LogRefused),
        (has_a_header_cut_short, LogRefused),
        (is_cut_short, LogDamaged),
        (is_cut_in_a_page, LogDamaged),
        (has_its_page_size_flipped, LogDamaged),
    ],
)
def test_what_is_no_log_is_refused_and_left_as_it_is(
    tmp_path: Path, damage: Callable[[Path], None], error: type[EngineError]
) -> None:
    log = write(tmp_path / "t")
    damage(log)
    before = content(log.parent)
    for _ in range(2):
        with pytest.raises(error) as refused:
            go(engine(log.parent, APP).open())
        assert str(log) in str(refused.value)
        assert refused.value.hint
        assert content(log.parent) == before
    with pytest.raises(error):
        inspect_log(log)
    assert content(log.parent) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_log_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    log = write(tmp_path / "t")
    log.chmod(0)
    with pytest.raises(LogRefused):
        go(engine(log.parent, APP).open())


def test_a_flipped_byte_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    """Wherever it is. Some bytes of a database say nothing: free space, a cache of counters."""
    log = write(tmp_path / "t")
    closed(log)
    whole = log.read_bytes()
    said = list(events_of(log))
    chance = random.Random(5)
    refused = 0
    for _ in range(60):
        data = bytearray(whole)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        log.write_bytes(data)
        try:
            inspect_log(log)
        except EngineError:
            refused += 1
        else:
            assert list(events_of(log)) == said
    assert refused > 5


def test_a_flipped_byte_in_the_wal_leaves_a_whole_beginning_at_most(tmp_path: Path) -> None:
    """SQLite takes its WAL up to the first frame that is damaged, as after a crash. What is left
    ends with a commit of the log, so a copy that has more, or the bucket, can tell."""
    log = write(tmp_path / "t")
    wal = Path(f"{log}-wal")
    data = wal.read_bytes()
    whole = inspect_log(log)
    chain = {event.commit: chain_at(log, event.commit) for event in events_of(log)}
    for place in range(len(data) // 3, len(data), len(data) // 7):
        Path(f"{log}-shm").unlink(missing_ok=True)
        damaged = bytearray(data)
        damaged[place] ^= 0xFF
        wal.write_bytes(damaged)
        left = inspect_log(log)
        assert left.sequence < whole.sequence
        assert left.sequence == 0 or left.chain == chain[left.sequence]
