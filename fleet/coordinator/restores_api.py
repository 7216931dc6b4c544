"""The part of the fleet's HTTP API that brings tenants' past back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import FastAPI
from fastapi.params import Depends
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from fleet.coordinator.coordinator import Coordinator
from fleet.coordinator.restores import RestoreRunning
from fleet.views import RestoreView, RestoreWanted

Refuse = Callable[[int, str, str, str | None], JSONResponse]
"""Makes the answer to a request that is not granted: status, kind, message, hint."""


def add_restores(
    app: FastAPI, coordinator: Coordinator, guarded: Sequence[Depends], refuse: Refuse
) -> None:
    """Add its routes to the coordinator's application."""

    def known(name: str) -> None:
        if name not in coordinator.tenants:
            raise HTTPException(404, f"there is no tenant {name!r}")

    @app.post("/api/tenants/{name}/restore", status_code=202, dependencies=guarded)
    async def restore(name: str, wanted: RestoreWanted) -> Response:
        known(name)
        try:
            view = coordinator.restores.begin(name, wanted)
        except RestoreRunning as error:
            return refuse(409, "restore_running", str(error), "wait until it is done")
        return JSONResponse(view.model_dump(mode="json"), status_code=202)

    @app.get("/api/tenants/{name}/restore", dependencies=guarded)
    async def look_at_restore(name: str) -> RestoreView:
        known(name)
        found = coordinator.restores.look(name)
        if found is None:
            raise HTTPException(404, f"{name!r} was never restored in place")
        return found
