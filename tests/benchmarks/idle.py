"""What an awake tenant that does nothing costs in requests, at each pace of its sidecar.

`python -m tests.benchmarks.idle --minutes 60` counts what the real Litestream asks of a real store.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import apsw

from backup import keys
from backup.litestream.pace import INTERVALS, Pace
from backup.litestream.sidecar import Sidecar
from backup.settings import StoreSettings
from fleet.seaweed import EmbeddedStore
from tests.faulty_store import FaultyStore

#: Dollars for 1,000 of a kind of request, as large providers charge them.
PRICES = {"list": 0.005, "put": 0.005, "get": 0.0004, "head": 0.0004, "delete": 0.0, "other": 0.005}
SETTLING = 120.0
"""Seconds after a start that are not counted: the base, and the first of every level."""


async def measure(
    pace: Pace, near: StoreSettings, folder: Path, seconds: float, settling: float = SETTLING
) -> dict[str, Any]:
    """Requests an hour of one idle tenant."""
    database = folder / "data" / "log.db"
    database.parent.mkdir(parents=True)
    connection = apsw.Connection(str(database))
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    connection.execute("CREATE TABLE t(a)")
    async with FaultyStore(near) as proxy:
        sidecar = Sidecar(proxy.settings, keys.epoch(pace.value, 1), database, folder)
        sidecar.pace = pace
        await sidecar.start()
        await sidecar.ready(20.0)
        for number in range(20):
            connection.execute("INSERT INTO t VALUES (?)", (number,))
            await sidecar.sync(5.0)
        await asyncio.sleep(settling)
        proxy.requests.clear()
        began = time.monotonic()
        await asyncio.sleep(seconds)
        hours = (time.monotonic() - began) / 3600
        counts = {kind: count / hours for kind, count in sorted(proxy.requests.items())}
        sidecar.kill()
        await sidecar.wait()
    connection.close()
    month = sum(count * PRICES[kind] / 1000 * 730 for kind, count in counts.items())
    return {
        "pace": pace.value,
        "intervals": list(INTERVALS[pace].levels),
        "requests_an_hour": {kind: round(count, 1) for kind, count in counts.items()},
        "in_all": round(sum(counts.values()), 1),
        "dollars_a_month": round(month, 3),
    }


async def main(minutes: float) -> list[dict[str, Any]]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "store").mkdir()
        with EmbeddedStore(folder / "store") as store:
            near = store.settings("idle")
            return await asyncio.gather(
                *(measure(pace, near, folder / pace, minutes * 60) for pace in Pace)
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    json.dump(asyncio.run(main(parser.parse_args().minutes)), sys.stdout, indent=1)
    print()
