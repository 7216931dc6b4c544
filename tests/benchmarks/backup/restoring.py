"""What a restore costs over Litestream's own of the same chain."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from pathlib import Path
from typing import Any

from backup import keys
from backup.litestream import binary, config
from backup.settings import StoreSettings
from backup.store import S3Store
from restore import verify
from restore.fetch import fetch
from tests.benchmarks.backup.claimed import streamed
from tests.benchmarks.spread import Spread

MB = 1_000_000
PIECE = 20_000
"""Bytes of a row."""
COMMIT = 20 * MB
"""Bytes of one transaction, at most."""


async def measure(
    settings: StoreSettings, folder: Path, *, size: int, rounds: int
) -> dict[str, Any]:
    """Rounds of both restores of one chain with a database of `size` bytes, in turn: Litestream's
    alone, and ours, with its list before and its full integrity check after."""
    tenant = f"restoring-{size // MB}"
    await _fill(settings, tenant, folder / "source", size)
    store, bare, ours, parts = S3Store(settings), [], [], []
    for number in range(rounds):
        for way in ("bare", "ours")[:: 1 if number % 2 else -1]:
            into = folder / f"{way}-{number}"
            begun = time.perf_counter()
            if way == "bare":
                await _bare(settings, tenant, into)
                bare.append(time.perf_counter() - begun)
            else:
                fetched = await fetch(store, settings, tenant, 1, 0, into / "data" / "log.db")
                checking = time.perf_counter()
                await asyncio.to_thread(verify.integrity, fetched.database)
                ours.append(time.perf_counter() - begun)
                parts.append(
                    {
                        "list": fetched.list_seconds,
                        "fetch": fetched.fetch_seconds,
                        "check": time.perf_counter() - checking,
                    }
                )
            shutil.rmtree(into)
    ratios = [one / other for one, other in zip(ours, bare, strict=True)]
    return {
        "bytes": size,
        "rounds": rounds,
        "bare_seconds": Spread.of(bare).as_json(),
        "seconds": Spread.of(ours).as_json(),
        "ratio": Spread.of(ratios).as_json(),
        "parts": {part: Spread.of([one[part] for one in parts]).as_json() for part in parts[0]},
    }


async def _fill(settings: StoreSettings, tenant: str, folder: Path, size: int) -> None:
    """A database of about so many bytes that do not compress, and its chain."""
    async with streamed(settings, tenant, folder) as here:
        left = size
        while left > 0:
            rows = max(1, min(left, COMMIT) // PIECE)
            with here.connection:
                here.connection.executemany(
                    "INSERT INTO t(value) VALUES (?)", ((os.urandom(PIECE),) for _ in range(rows))
                )
            left -= rows * PIECE
            seen = await here.sidecar.sync(120.0)
            if seen.txid != seen.replicated:
                raise RuntimeError(f"the chain is not whole: {seen}")


async def _bare(settings: StoreSettings, tenant: str, into: Path) -> None:
    """What somebody with Litestream alone would run."""
    into.mkdir()
    database = into / "log.db"
    file = into / "litestream.yml"
    config.for_epoch(settings, keys.epoch(tenant, 1), database, into / "unused.sock").write(file)
    process = await asyncio.create_subprocess_exec(
        *(str(binary.find()), "restore", "-config", str(file), "-o", str(database), str(database)),
        env=config.environment(settings),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    if await process.wait() != 0:
        raise RuntimeError("litestream's own restore failed")
