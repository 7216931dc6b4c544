"""The part of the fleet's HTTP API that shows what was done."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import FastAPI
from fastapi.params import Depends
from starlette.responses import JSONResponse, Response

from fleet import history_views
from fleet.coordinator.coordinator import Coordinator
from fleet.coordinator.history import NotRecorded
from fleet.coordinator.history_log import Wanted

Refuse = Callable[[int, str, str, str | None], JSONResponse]
"""Makes the answer to a request that is not granted: status, kind, message, hint."""


def add_history(
    app: FastAPI, coordinator: Coordinator, guarded: Sequence[Depends], refuse: Refuse
) -> None:
    """Add its routes to the coordinator's application."""

    @app.get("/api/history", dependencies=guarded, response_model=history_views.HistoryPage)
    async def history(
        tenant: str | None = None,
        kind: str | None = None,
        since: float | None = None,
        after: int = 0,
        limit: int = 100,
        newest: bool = False,
    ) -> Response:
        wanted = Wanted(tenant, kind, since, after, limit, newest)
        try:
            items = await coordinator.history.read(wanted)
        except NotRecorded as error:
            return refuse(503, "no_history", str(error), "try again")
        full = len(items) >= min(max(limit, 1), 1000)
        page = history_views.HistoryPage(items=items, next=str(items[-1].n) if full else None)
        return JSONResponse(page.model_dump(mode="json"))
