"""The floor: what SQLite itself takes for one row a step, in its own transaction or grouped.

Argument: a folder.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import apsw

from tests.benchmarks.serving import serve


def insert(folder: Path, steps: int, *, synchronous: str, group: int) -> float:
    """Seconds for so many rows in transactions of `group`, on a new file without checkpoints."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        db = apsw.Connection(str(Path(place) / "floor.db"))
        db.execute("PRAGMA journal_mode=WAL").fetchall()
        db.execute("PRAGMA wal_autocheckpoint=0").fetchall()
        db.execute(f"PRAGMA synchronous={synchronous}")
        db.execute("CREATE TABLE step(id INTEGER PRIMARY KEY, execution, name, payload)")
        begun = time.perf_counter()
        for first in range(0, steps, group):
            db.execute("BEGIN IMMEDIATE")
            for number in range(first, min(first + group, steps)):
                db.execute(
                    "INSERT INTO step(execution, name, payload) VALUES (?, ?, ?)",
                    (number // 10, 1, str(number)),
                )
            db.execute("COMMIT")
        seconds = time.perf_counter() - begun
        db.close()
        return seconds


async def main(folder: Path) -> None:
    async def answer(request: dict[str, Any]) -> dict[str, Any]:
        steps, group = request["workflows"] * 10, request["group"]
        seconds = insert(folder, steps, synchronous=request["synchronous"], group=group)
        return {"steps": steps, "seconds": seconds}

    await serve(answer)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
