"""Faults at the rim: the disk, the clock, descriptors. What was acknowledged is never lost."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import pytest

from node import activity, workflow
from node.engine.errors import EngineStopped, LogRefused
from node.engine.events import Status
from node.engine.inspection import events_of, inspect_log
from node.testing import SkippingClock
from tests.integration.engine.harness import application, engine, go


@activity
async def double(number: int) -> int:
    return 2 * number


@workflow
async def doubled(number: int, text: str = "") -> int:
    return await double(number) + 1


@workflow
async def sleeps(seconds: float) -> list[str]:
    before = workflow.now()
    await workflow.sleep(seconds)
    return [before.isoformat(), workflow.now().isoformat()]


APP = application(double, doubled, sleeps)


BELOW = "unix"


class Disk(apsw.VFS):
    """Every file of SQLite's, whose writes or syncs of a WAL fail as it is told."""

    def __init__(self) -> None:
        self.fails: Callable[[str], BaseException | None] = lambda what: None
        super().__init__("disk", BELOW, makedefault=True)

    def xOpen(self, name: Any, flags: Any) -> _File:
        return _File(self, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        file = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        self._is_wal = file.endswith("-wal")
        super().__init__(BELOW, name, flags)

    def _fail(self, what: str) -> None:
        error = self._disk.fails(what) if self._is_wal else None
        if error is not None:
            raise error

    def xWrite(self, data: bytes, offset: int) -> None:
        self._fail("write")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self._fail("sync")
        super().xSync(flags)


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk()
    yield disk
    disk.fails = lambda what: None
    disk.unregister()
    apsw.set_default_vfs(BELOW)


async def acknowledges(folder: Path, fails: Callable[[], None], stops: str) -> list[str]:
    """Start executions, with the fault from the fifth on; the ids that were acknowledged."""
    known: list[str] = []
    failures: list[BaseException] = []
    async with engine(folder, APP, on_failed=failures.append) as it:
        for number in range(5):
            await it.start("doubled", {"number": number}, id=f"e{number}")
            known.append(f"e{number}")
        fails()

        async def more() -> None:
            for number in range(5, 500):
                await it.start("doubled", {"number": number, "text": "x" * 4000}, id=f"e{number}")
                known.append(f"e{number}")

        with pytest.raises(EngineStopped, match="the engine failed") as stopped:
            await more()
        assert stops in stopped.value.hint
        with pytest.raises(EngineStopped) as refused:
            await it.start("doubled", {"number": 0}, id="late")
        assert stops in refused.value.hint
        assert len(failures) == 1
    return known


def goes_on(folder: Path, known: list[str]) -> None:
    """All that was acknowledged is there, and runs to its end."""

    async def again() -> None:
        async with engine(folder, APP) as it:
            for id in known:
                view = await it.result(id, wait=20)
                assert (view.status, view.result) == (Status.COMPLETED, 2 * int(id[1:]) + 1)

    assert set(known) <= {event.execution for event in events_of(folder / "log.db")}
    go(again())
    inspect_log(folder / "log.db")


@pytest.mark.parametrize("what", ["write", "sync"])
@pytest.mark.parametrize(
    ("error", "stops"),
    [(apsw.FullError("full"), "Free space"), (apsw.IOError("EIO"), "Look at the disk")],
)
def test_a_disk_that_fails_stops_the_engine_and_loses_nothing(
    tmp_path: Path,
    disk: Disk,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    error: BaseException,
    stops: str,
) -> None:
    monkeypatch.setattr("node.engine.writer.RETRIES", (0.001, 0.001))

    def fails() -> None:
        disk.fails = lambda doing: error if doing == what else None

    known: list[str] = []
    go(_into(known, acknowledges(tmp_path, fails, stops)))
    disk.fails = lambda doing: None
    goes_on(tmp_path, known)


async def _into(known: list[str], found: Any) -> None:
    known += await found


def test_a_disk_that_is_full_for_a_while_is_waited_for(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.engine.writer.RETRIES", (0.001, 0.001, 0.001, 0.001))
    left = [3]

    def fails(what: str) -> BaseException | None:
        if what != "write" or not left[0]:
            return None
        left[0] -= 1
        return apsw.FullError("full")

    async def test() -> None:
        async with engine(tmp_path, APP) as it:
            await it.start("doubled", {"number": 1}, id="a")
            disk.fails = fails
            await it.start("doubled", {"number": 2}, id="b")
            assert (await it.result("b", wait=20)).result == 5

    go(test())
    assert left == [0]
    found = {event.execution for event in events_of(tmp_path / "log.db")}
    assert found == {"a", "b"}


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own, where this user may have one."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True
    )
    if made.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_no_space_left_on_a_real_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.engine.writer.RETRIES", (0.001, 0.001))
    with small_disk(tmp_path / "small", "700k") as folder:
        known: list[str] = []
        go(_into(known, acknowledges(folder, lambda: None, "Free space")))
        assert len(known) > 5
        subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)
        goes_on(folder, known)


def test_a_file_system_that_is_read_only(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "16m") as folder:

        async def first() -> None:
            async with engine(folder, APP) as it:
                await it.start("doubled", {"number": 1}, id="e1")
                await it.result("e1", wait=20)

        go(first())
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        with pytest.raises(LogRefused, match=r"cannot be opened|read-only"):
            go(engine(folder, APP).open())
        assert inspect_log(folder / "log.db").executions["completed"] == 1
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
        goes_on(folder, ["e1"])


class Steps(SkippingClock):
    """A clock that goes wrong."""

    def step(self, seconds: float) -> None:
        self.milliseconds += round(seconds * 1000)


@pytest.mark.parametrize("hours", [1, -1])
def test_a_clock_that_steps_an_hour(tmp_path: Path, hours: int) -> None:
    """Timers are UTC deadlines, the log's times never go back, and neither does now()."""
    clock = Steps(datetime(2026, 1, 1, tzinfo=UTC))

    async def test() -> None:
        async with engine(tmp_path, APP, clock=clock) as it:
            await it.start("sleeps", {"seconds": 1800}, id="s")
            clock.step(3600 * hours)
            it.look_at_clock()
            await it.start("doubled", {"number": 1}, id="e1")
            assert (await it.result("e1", wait=20)).result == 3
            due = (await it.result("s", wait=0.02)).status is Status.COMPLETED
            assert due is (hours > 0)
        # An engine that opens the log while the clock is wrong goes on from there as well.
        async with engine(tmp_path, APP, clock=clock) as it:
            clock.step(2 * 3600)
            it.look_at_clock()
            before, after = (await it.result("s", wait=20)).result
            assert before <= after

    go(test())
    inspect_log(tmp_path / "log.db")
    times = [event.at for event in events_of(tmp_path / "log.db")]
    assert times == sorted(times)


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = os.open("/dev/null", os.O_RDONLY)
    os.close(spare)
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_without_descriptors_what_is_open_goes_on_and_nothing_is_opened(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()

    async def test() -> None:
        async with engine(tmp_path / "other", APP):
            pass
        async with engine(tmp_path, APP) as it:
            await it.start("doubled", {"number": 1}, id="e1")
            await it.result("e1", wait=20)
            with no_more_descriptors():
                await it.start("doubled", {"number": 2}, id="e2")
                assert (await it.result("e2", wait=20)).result == 5
                with pytest.raises(LogRefused, match="Too many open files"):
                    await engine(tmp_path / "other", APP).open()
        async with engine(tmp_path / "other", APP):
            pass

    go(test())
    goes_on(tmp_path, ["e1", "e2"])
