"""The engine's HTTP API for what it and the tenant's code have logged."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException

from node.api_models_log import LogPage, LogQuery
from node.api_route import Refusal, Routes, operation
from node.log_reading import Cursor, newest_lines


class LogApi(Routes):
    """One route. `path` is the log's newest file, None for an engine that writes none."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    @operation(
        "GET",
        "/log",
        refusals=(
            Refusal("this_engine_keeps_no_log_of_its_own", 404, "It writes to its terminal."),
        ),
    )
    async def read_log(self, query: LogQuery) -> LogPage:
        """What the engine's process and the tenant's code have logged of late, oldest first."""
        if self.path is None:
            raise HTTPException(404, "this engine keeps no log of its own")
        after = None if query.after is None else Cursor.read(query.after)
        levels = logging.getLevelNamesMapping()
        least = 0 if query.level is None else levels[query.level.upper()]

        def wanted(line: dict[str, Any]) -> bool:
            if query.execution is not None and line.get("execution") != query.execution:
                return False
            # What was printed has no level, and may be what one is looking for.
            return levels.get(str(line.get("level", "critical")).upper(), 50) >= least

        found, cursor = await asyncio.to_thread(newest_lines, self.path, query.limit, wanted, after)
        following = None if cursor is None else str(cursor)
        return LogPage(items=found, next=following)
