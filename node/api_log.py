"""The engine's HTTP API for what it and the tenant's code have logged."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from node.api_answers import query_of
from node.log_reading import Cursor, newest_lines


class LogQuery(BaseModel):
    """What GET /log takes. `level` is the least one; `after` the `next` of an answer before."""

    model_config = ConfigDict(extra="forbid")

    execution: str | None = None
    level: Literal["debug", "info", "warning", "error", "critical"] | None = None
    limit: Annotated[int, Field(ge=1, le=5000)] = 200
    after: Annotated[str | None, Field(pattern=r"^\d+:\d+$")] = None


class LogApi:
    """One route. `path` is the log's newest file, None for an engine that writes none."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def routes(self) -> list[Route]:
        """There is /log."""
        return [Route("/log", self.log, methods=["GET"])]

    async def log(self, request: Request) -> Response:
        """The newest lines, oldest first."""
        query = query_of(LogQuery, request)
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
        return JSONResponse({"items": found, "next": following})
