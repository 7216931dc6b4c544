"""The part of the fleet's HTTP API that deletes tenants, and tells what is left of their nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import httpx
from fastapi import FastAPI, Request
from fastapi.params import Depends
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from fleet.coordinator.coordinator import Coordinator
from fleet.coordinator.deletions import NotDeleted, shown
from fleet.coordinator.lookup import tenant_of
from fleet.deletion_views import DeletionList, DeletionWanted, ReceiptList
from fleet.proxy import relayed
from fleet.views import DeletionView

REMAINS_TIMEOUT = 60.0
"""Seconds for a host to look at what its nodes have left there."""
Refuse = Callable[[int, str, str, str | None], JSONResponse]
"""Makes the answer to a request that is not granted: status, kind, message, hint."""


def add_deletions(
    app: FastAPI, coordinator: Coordinator, guarded: Sequence[Depends], refuse: Refuse, token: str
) -> None:
    """Add its routes to the coordinator's application."""
    http = httpx.AsyncClient(timeout=REMAINS_TIMEOUT)

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

    @app.get("/api/hosts/{host}/remains", dependencies=guarded)
    async def remains(host: str, request: Request) -> Response:
        watched = coordinator.observer.hosts.get(host)
        if watched is None:
            raise HTTPException(404, f"there is no host {host!r}")
        headers = {"authorization": f"Bearer {token}"}
        return await relayed(request, http, f"{watched.address}/api/remains", headers)

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
