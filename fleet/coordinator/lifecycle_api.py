"""The part of the fleet's HTTP API that says where tenants run, and whether they do."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import FastAPI
from fastapi.params import Depends
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from fleet.coordinator.coordinator import Coordinator
from fleet.coordinator.lifecycle import NotMovable
from fleet.coordinator.lookup import living
from fleet.views import CordonWanted, HostView, MoveView, MoveWanted, TenantChange, TenantView

Refuse = Callable[[int, str, str, str | None], JSONResponse]
"""Makes the answer to a request that is not granted: status, kind, message, hint."""


def add_lifecycle(
    app: FastAPI,
    coordinator: Coordinator,
    guarded: Sequence[Depends],
    refuse: Refuse,
    *,
    tenant_view: Callable[[str], TenantView],
    host_view: Callable[[str], HostView],
) -> None:
    """Add its routes to the coordinator's application."""

    @app.patch("/api/tenants/{name}", dependencies=guarded)
    async def change(name: str, wanted: TenantChange) -> TenantView:
        living(coordinator, name)
        await coordinator.lifecycle.configure(
            name, {field: getattr(wanted, field) for field in wanted.model_fields_set}
        )
        return tenant_view(name)

    @app.post("/api/tenants/{name}/sleep", status_code=202, dependencies=guarded)
    async def sleep(name: str) -> TenantView:
        living(coordinator, name)
        await coordinator.lifecycle.sleep(name)
        return tenant_view(name)

    @app.post("/api/tenants/{name}/wake", status_code=202, dependencies=guarded)
    async def wake(name: str) -> TenantView:
        living(coordinator, name)
        await coordinator.lifecycle.wake(name)
        return tenant_view(name)

    @app.post("/api/tenants/{name}/move", status_code=202, dependencies=guarded)
    async def move(name: str, wanted: MoveWanted) -> Response:
        living(coordinator, name)
        try:
            view = await coordinator.lifecycle.move(name, wanted.host or "")
        except NotMovable as error:
            return refuse(409, "not_movable", str(error), error.hint)
        return JSONResponse(view.model_dump(mode="json"), status_code=202)

    @app.get("/api/tenants/{name}/move", dependencies=guarded)
    async def look_at_move(name: str) -> MoveView:
        living(coordinator, name)
        return coordinator.lifecycle.look(name)

    def known(name: str) -> None:
        if name not in coordinator.observer.hosts:
            raise HTTPException(404, f"there is no host {name!r}")

    @app.get("/api/hosts/{name}", dependencies=guarded)
    async def host(name: str) -> HostView:
        known(name)
        return host_view(name)

    @app.put("/api/hosts/{name}/cordon", dependencies=guarded)
    async def cordon(name: str, wanted: CordonWanted) -> HostView:
        known(name)
        await coordinator.cordons.cordon(name, drain=wanted.drain, why=wanted.why)
        return host_view(name)

    @app.delete("/api/hosts/{name}/cordon", dependencies=guarded)
    async def uncordon(name: str) -> HostView:
        known(name)
        await coordinator.cordons.uncordon(name)
        return host_view(name)
