"""SIGKILL loses nothing that was committed, wherever it strikes. At every commit: four_ways.py."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

from node.engine.inspection import inspect_log
from tests.integration.engine import four_ways, orders_scenario
from tests.integration.engine.lives import Death, Life, forks

MODULE = orders_scenario.__name__


def killed_while_it_writes(folder: Path, chance: random.Random) -> Death:
    """A life that is killed at a random moment from its first commit on."""
    wal = folder / "log.db-wal"
    before = wal.stat().st_size if wal.exists() else 0
    pid = forks().begin(Life(folder / "log.db", folder / "ledger", MODULE, 0))
    deadline = time.monotonic() + 20
    # Opening the log is a page or two.
    while not wal.exists() or wal.stat().st_size <= before + 3 * 4120:
        if time.monotonic() > deadline or not Path(f"/proc/{pid}").exists():
            break
    time.sleep(chance.uniform(0, 0.03))
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return forks().death()


def test_killed_at_random_moments(tmp_path: Path) -> None:
    chance = random.Random(7)
    kills = 0
    while killed_while_it_writes(tmp_path, chance).status != 0:
        inspect_log(tmp_path / "log.db")
        kills += 1
        assert kills < 100
    assert kills >= 2
    four_ways.compare(tmp_path, MODULE)
