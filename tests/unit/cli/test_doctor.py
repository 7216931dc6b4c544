"""The doctor's checks, each with something that is well and something that is not."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from backup.memory import MemoryStore
from fleet import doctor
from fleet.problem import Problem


@pytest.mark.parametrize(
    ("version", "ok"), [("3.51.3", True), ("3.54.1", True), ("3.51.2", False), ("3.9.9", False)]
)
def test_sqlite_must_be_sound(version: str, ok: bool) -> None:
    check = doctor.check_sqlite(version)
    assert check.ok is ok
    assert (check.todo is None) is ok


def test_linux_and_a_new_enough_python_are_needed() -> None:
    assert doctor.check_system("Linux").ok
    assert not doctor.check_system("Darwin").ok
    assert doctor.check_python((3, 11, 0)).ok
    assert not doctor.check_python((3, 10, 9)).ok


def _program(folder: Path, script: str) -> Path:
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("script", "ok"),
    [
        ("echo 1.2.3", True),
        ("echo version 8000GB 4.48", True),
        ("exit 1", False),
        ("echo nothing", False),
    ],
)
def test_a_program_must_run_and_say_its_version(tmp_path: Path, script: str, ok: bool) -> None:
    check = doctor.check_binary("program", lambda: _program(tmp_path, script), "program")
    assert check.ok is ok
    assert (check.todo is None) is ok


@pytest.mark.parametrize(
    ("version", "ok", "todo"),
    [("0.5.17", True, False), ("0.5.18", True, True), ("0.5.14", False, True)],
)
def test_a_release_of_litestream_is_judged(
    tmp_path: Path, version: str, ok: bool, todo: bool
) -> None:
    check = doctor.check_litestream(lambda: _program(tmp_path, f"echo {version}"))
    assert check.ok is ok
    assert (check.todo is not None) is todo
    assert version in check.found


def test_a_program_that_is_missing_or_no_program(tmp_path: Path) -> None:
    def missing() -> Path:
        raise Problem("missing_binary", "There is no weed.", "pip install it")

    assert doctor.check_binary("weed", missing, "weed").found == "There is no weed."
    assert not doctor.check_binary("weed", lambda: tmp_path / "absent", "weed").ok


def test_a_folder_must_be_writable(tmp_path: Path) -> None:
    assert doctor.check_folder("data", tmp_path).ok
    assert doctor.check_folder("data", tmp_path / "not" / "yet").ok
    assert not (tmp_path / "not").exists()
    file = tmp_path / "file"
    file.touch()
    assert not doctor.check_folder("data", file).ok


class Clocked(MemoryStore):
    """A store whose clock stands at 12:00:00."""

    def date(self) -> datetime:
        return datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


NOON = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("ours", "ok"),
    [(0.0, True), (0.9, True), (5.9, True), (-4.9, True), (6.2, False), (-5.2, False)],
)
def test_the_clock_may_be_off_by_five_seconds_and_the_stores_resolution(
    ours: float, ok: bool
) -> None:
    assert doctor.check_clock(Clocked(), now=lambda: NOON + ours).ok is ok


def test_a_sound_store_passes_and_everything_renders() -> None:
    checks = doctor.examine_store(MemoryStore(), "memory")
    assert [check.name for check in checks if not check.ok] == []
    assert checks[0].found == "memory"
    console = Console(file=io.StringIO(), width=100)
    console.print(doctor.render(doctor.Diagnosis(ok=True, checks=checks)))
    assert isinstance(console.file, io.StringIO)
    assert "✓" in console.file.getvalue()
