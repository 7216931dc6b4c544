"""The part of the fleet's HTTP API that deletes tenants."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import FastAPI
from fastapi.params import Depends
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from fleet.coordinator.coordinator import Coordinator
from fleet.coordinator.deletions import NotDeleted, shown
from fleet.coordinator.lookup import tenant_of
from fleet.deletion_views import DeletionList, DeletionWanted, ReceiptList
from fleet.views import DeletionView

Refuse = Callable[[int, str, str, str | None], JSONResponse]
"""Makes the answer to a request that is not granted: status, kind, message, hint."""


def add_deletions(
    app: FastAPI, coordinator: Coordinator, guarded: Sequence[Depends], refuse: Refuse
) -> None:
    """Add its routes to the coordinator's application."""

    @app.post("/api/tenants/{name}/deletion", status_code=202, dependencies=guarded)
    async def delete(name: str, wanted: DeletionWanted) -> Response:
        tenant_of(coordinator, name)
        try:
            view = await coordinator.deletions.ask(name, wanted)
        except NotDeleted as error:
            status = 404 if error.type == "not_found" else 409
            return refuse(status, error.type, str(error), error.hint or None)
        return JSONResponse(view.model_dump(mode="json"), status_code=202)

    @app.delete("/api/tenants/{name}/deletion", dependencies=guarded)
    async def undelete(name: str) -> Response:
        tenant_of(coordinator, name)
        try:
            await coordinator.deletions.take_back(name)
        except NotDeleted as error:
            return refuse(409, error.type, str(error), error.hint or None)
        return JSONResponse({"tenant": name})

    @app.get("/api/tenants/{name}/deletion", dependencies=guarded)
    async def look_at_deletion(name: str) -> DeletionView:
        for view in coordinator.deletions.views():
            if view.tenant == name:
                return view
        tenant_of(coordinator, name)
        raise HTTPException(404, f"{name!r} is not deleted")

    @app.get("/api/deletions", dependencies=guarded)
    async def deletions() -> DeletionList:
        return DeletionList(items=coordinator.deletions.views())

    @app.get("/api/tenants/{name}/receipts", dependencies=guarded)
    async def receipts(name: str) -> ReceiptList:
        found = await coordinator.deletions.receipts(name)
        if not found:
            # A name that was never used, or whose tenants were never removed.
            tenant_of(coordinator, name)
        return ReceiptList(items=[shown(one) for one in found])
