"""Measurements of our engine alone, one to a process. Argument: a folder."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from tests.benchmarks import ageing, barriers, inflight, latency, opening, size
from tests.benchmarks.serving import serve

MEASUREMENTS: dict[str, Callable[..., Coroutine[Any, Any, dict[str, Any]]]] = {
    "ageing": ageing.measure,
    "barriers": barriers.measure,
    "inflight": inflight.measure,
    "latency": latency.measure,
    "opening": opening.measure,
    "size": size.measure,
}


async def main(folder: Path) -> None:
    async def answer(request: dict[str, Any]) -> dict[str, Any]:
        return await MEASUREMENTS[request["what"]](folder, **request["options"])

    await serve(answer)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
