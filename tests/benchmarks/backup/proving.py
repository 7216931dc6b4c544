"""What a proof costs over the bare sync that is in it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from backup.barrier import Outcome
from backup.settings import StoreSettings
from tests.benchmarks.backup.claimed import Streamed, streamed
from tests.benchmarks.spread import Spread, percentiles

TIMEOUT = 20.0


async def measure(
    settings: StoreSettings, folder: Path, *, pairs: int, writers: int, each: int
) -> dict[str, Any]:
    """Pairs of a commit with a bare `POST /sync` and a commit with a barrier, in turn, each first
    as often as the other; then so many writers at once, each for so many proofs."""
    async with streamed(settings, "proving", folder) as here:
        # The first ones make connections.
        for _ in range(5):
            await _bare(here)
            await _proof(here)
        bare: list[float] = []
        proofs: list[float] = []
        for number in range(pairs):
            for way, into in ((_bare, bare), (_proof, proofs))[:: 1 if number % 2 else -1]:
                into.append(await way(here))
        rounds, begun = here.barrier.rounds, time.perf_counter()

        async def write() -> None:
            for _ in range(each):
                await _proof(here)

        await asyncio.gather(*(write() for _ in range(writers)))
        seconds = time.perf_counter() - begun
        rounds = here.barrier.rounds - rounds
    ratios = [proof / sync for proof, sync in zip(proofs, bare, strict=True)]
    return {
        "pairs": pairs,
        "bare_ms": dict(zip(("p50", "p99"), percentiles([1000 * s for s in bare]), strict=True)),
        "proof_ms": dict(zip(("p50", "p99"), percentiles([1000 * s for s in proofs]), strict=True)),
        "ratio": Spread.of(ratios).as_json(),
        "writers": writers,
        "proofs_per_second": writers * each / seconds,
        "rounds_per_second": rounds / seconds,
    }


def _commit(here: Streamed) -> None:
    here.connection.execute("INSERT INTO t(value) VALUES (zeroblob(100))")


async def _bare(here: Streamed) -> float:
    _commit(here)
    begun = time.perf_counter()
    seen = await here.sidecar.control.sync(wait=True, timeout=TIMEOUT)
    if seen.replicated != seen.txid:
        raise RuntimeError(f"a bare sync has not uploaded: {seen}")
    return time.perf_counter() - begun


async def _proof(here: Streamed) -> float:
    _commit(here)
    begun = time.perf_counter()
    result = await here.barrier.prove()
    if result.outcome is not Outcome.DURABLE:
        raise RuntimeError(f"a proof ended as {result}")
    return time.perf_counter() - begun
