"""SIGKILL loses nothing that was committed, wherever it strikes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import apsw
import pytest

from node.engine.events import Kind
from node.engine.inspection import LogSummary, chain_at, events_of, inspect_log

ROOT = Path(__file__).parents[3]


def start(folder: Path, executions: int, die_after: int, *more: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.integration.engine.engine_worker",
            str(folder),
            str(executions),
            str(die_after),
            *more,
        ],
        cwd=ROOT,
        env={**os.environ, "LEDGER": str(folder / "ledger")},
    )


def run(folder: Path, executions: int, die_after: int, *more: str) -> int:
    with start(folder, executions, die_after, *more) as process:
        return process.wait(60)


def results(path: Path) -> dict[str, Any]:
    return {
        event.execution: json.loads(str(event.payload))
        for event in events_of(path)
        if event.kind is Kind.COMPLETED
    }


def check(folder: Path, executions: int, wanted: dict[str, Any]) -> None:
    path = folder / "log.db"
    summary = inspect_log(path)
    assert summary.executions == {
        "running": 0,
        "completed": executions,
        "failed": 0,
        "cancelled": 0,
        "terminated": 0,
    }
    assert results(path) == wanted
    # The table and the log agree: each booking once, though the first attempt always fails.
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    booked = Counter(row[0] for row in db.execute("SELECT id FROM booking"))
    db.close()
    assert booked == dict.fromkeys(wanted, 1)
    # Every effect that the log knows happened, and a repeated one carried the same key.
    keys = {tuple(line.split()[:2]) for line in (folder / "ledger").read_text().splitlines()}
    per_execution = Counter(kind for kind, _ in keys)
    assert per_execution == {
        "price": 4 * executions,
        "tax": 3 * executions,
        "flaky": executions,
    }


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert run(folder, 5, 0) == 0
    found = results(folder / "log.db")
    assert len(found) == 5
    check(folder, 5, found)
    return found


@pytest.mark.parametrize("mode", ["cached", "forced"])
def test_killed_after_each_commit(tmp_path: Path, wanted: dict[str, Any], mode: str) -> None:
    before: LogSummary | None = None
    lives = 0
    while True:
        lives += 1
        code = run(tmp_path, 5, 1, mode)
        summary = inspect_log(tmp_path / "log.db")
        if before is not None:
            assert summary.sequence >= before.sequence
            assert chain_at(tmp_path / "log.db", before.sequence) == before.chain
        before = summary
        if code == 0:
            break
        assert code == -9
        assert lives < 200
    assert lives > 5
    check(tmp_path, 5, wanted)


def test_forced_replay_gives_the_same(tmp_path: Path, wanted: dict[str, Any]) -> None:
    assert run(tmp_path, 5, 0, "forced") == 0
    check(tmp_path, 5, wanted)


def test_killed_at_random_moments(tmp_path: Path, wanted: dict[str, Any]) -> None:
    chance = random.Random(7)
    wal = tmp_path / "log.db-wal"
    kills = 0
    while True:
        before = wal.stat().st_size if wal.exists() else 0
        with start(tmp_path, 5, 0) as process:
            # From its first commit on, and so while it writes; opening the log is a page or two.
            while process.poll() is None:
                if wal.exists() and wal.stat().st_size > before + 3 * 4120:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(chance.uniform(0, 0.03))
                    process.kill()
                    break
            code = process.wait()
        inspect_log(tmp_path / "log.db")
        if code == 0:
            break
        kills += 1
        assert kills < 100
    assert kills >= 2
    check(tmp_path, 5, wanted)
