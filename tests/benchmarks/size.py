"""Bytes of database for each workflow of ten steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw

from tests.benchmarks.workloads import at_once, engine, one_after_another


async def measure(folder: Path, *, workflows: int) -> dict[str, Any]:
    """Of the whole file after a checkpoint, for workflows at once and one after another."""
    sizes: dict[str, Any] = {}
    for name, shape in (("at once", at_once), ("one after another", one_after_another)):
        path = folder / f"{name}.db"
        async with engine(path) as running:
            await shape(running, workflows)
        written = path.with_name(path.name + "-wal").stat().st_size
        # The log is closed for good, and nothing replicates it.
        db = apsw.Connection(str(path))
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        db.close()
        sizes[name] = path.stat().st_size / workflows
        sizes[f"{name}, WAL"] = written / workflows
    return sizes
