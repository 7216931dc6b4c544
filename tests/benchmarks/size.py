"""Bytes of database for each workflow of ten steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw

from tests.benchmarks.workloads import at_once, engine, one_after_another


async def measure(folder: Path, *, workflows: int) -> dict[str, Any]:
    """Of the file after a checkpoint, for workflows at once and one after another: what they add
    to an empty log, and what the whole file comes to."""
    path = folder / "empty.db"
    async with engine(path):
        pass
    empty = _closed_size(path)
    sizes: dict[str, Any] = {"empty": empty}
    for name, shape in (("at once", at_once), ("one after another", one_after_another)):
        path = folder / f"{name}.db"
        async with engine(path) as running:
            await shape(running, workflows)
        written = path.with_name(path.name + "-wal").stat().st_size
        whole = _closed_size(path)
        sizes[name] = (whole - empty) / workflows
        sizes[f"{name}, whole"] = whole / workflows
        sizes[f"{name}, WAL"] = written / workflows
    return sizes


def _closed_size(path: Path) -> int:
    # The log is closed for good, and nothing replicates it.
    db = apsw.Connection(str(path))
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    db.close()
    return path.stat().st_size
