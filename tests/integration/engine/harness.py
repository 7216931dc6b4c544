"""What tests of the engine's features share: an engine on a folder, and lives cut short."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from node.engine.application import Application, collect
from node.engine.durability import Outcome, Proof
from node.engine.engine import Engine, EngineConfig
from node.engine.events import CLOSING
from node.engine.inspection import LogSummary, chain_at, events_of, inspect_log
from tests.integration.engine import lives

FIELDS = {
    "barrier",
    "authority",
    "clock",
    "on_commit",
    "on_fenced",
    "on_failed",
    "random",
    "observer",
}


class Proves:
    """A barrier that proves everything."""

    async def prove(self, sequence: int) -> Proof:
        await asyncio.sleep(0)
        return Proof(Outcome.DURABLE)


def application(*things: object) -> Application:
    return collect("test", things)


def engine(path: Path, app: Application, **options: Any) -> Engine:
    given = {key: value for key, value in options.items() if key in FIELDS}
    more = {key: value for key, value in options.items() if key not in FIELDS}
    file = path / "log.db"
    config = EngineConfig(
        path=file, application=app, tenant="acme", lineage="line", create=not file.exists(), **more
    )
    return Engine(config, **given)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.002)


def go(test: Awaitable[None]) -> None:
    async def main() -> None:
        await test

    asyncio.run(main())


def outcomes(path: Path) -> dict[str, Any]:
    """How each closed execution ended, by its id."""
    return {
        event.execution: [event.kind.name, json.loads(str(event.payload or "null"))]
        for event in events_of(path / "log.db")
        if event.kind in CLOSING
    }


def live_once(folder: Path, module: str, die_after: int, mode: str) -> int:
    """One life of a process that opens the log and drives `module`; its exit status."""
    life = lives.Life(folder / "log.db", folder / "ledger", module, die_after, mode)
    return lives.forks().live(life).status


def killed_after_each_commit(folder: Path, module: str, mode: str, commits: int = 1) -> int:
    """Drive `module` to its end through lives of `commits` commits each; how many it took."""
    before: LogSummary | None = None
    for life in range(1, 300):
        code = live_once(folder, module, commits, mode)
        after = inspect_log(folder / "log.db")
        if before is not None:
            assert chain_at(folder / "log.db", before.sequence) == before.chain
        before = after
        if code == 0:
            return life
        assert code == -9
    raise AssertionError("it never came to an end")
