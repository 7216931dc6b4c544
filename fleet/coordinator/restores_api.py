"""The part of the fleet's HTTP API that brings tenants' past back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import httpx
from fastapi import FastAPI, Request
from fastapi.params import Depends
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from backup.keys import BadTenantName
from fleet.coordinator.account import TenantExists
from fleet.coordinator.coordinator import Coordinator
from fleet.coordinator.history import NotRecorded
from fleet.coordinator.lookup import living, tenant_of
from fleet.coordinator.restores import RestoreRunning
from fleet.coordinator.retention import NotHeld
from fleet.proxy import relayed
from fleet.views import EpochList, ForkWanted, HoldView, RestoreView, RestoreWanted
from node.order import ENDED

EXPORT_TIMEOUT = 900.0
"""Seconds for an export to be made, and for a pause while it is sent."""
Refuse = Callable[[int, str, str, str | None], JSONResponse]
"""Makes the answer to a request that is not granted: status, kind, message, hint."""


def add_restores(
    app: FastAPI, coordinator: Coordinator, guarded: Sequence[Depends], refuse: Refuse, token: str
) -> None:
    """Add its routes to the coordinator's application."""
    http = httpx.AsyncClient(timeout=EXPORT_TIMEOUT)

    @app.post("/api/tenants/{name}/restore", status_code=202, dependencies=guarded)
    async def restore(name: str, wanted: RestoreWanted) -> Response:
        living(coordinator, name)
        try:
            view = await coordinator.restores.begin(name, wanted)
        except RestoreRunning as error:
            return refuse(409, "restore_running", str(error), "wait until it is done")
        except NotRecorded as error:
            return refuse(503, "no_log", str(error), "try again")
        return JSONResponse(view.model_dump(mode="json"), status_code=202)

    @app.get("/api/tenants/{name}/restore", dependencies=guarded)
    async def look_at_restore(name: str) -> RestoreView:
        tenant_of(coordinator, name)
        found = coordinator.restores.look(name)
        if found is None:
            raise HTTPException(404, f"{name!r} was never restored in place")
        return found

    @app.post("/api/tenants/{name}/forks", status_code=202, dependencies=guarded)
    async def fork(name: str, wanted: ForkWanted) -> Response:
        living(coordinator, name)
        try:
            view = await coordinator.restores.fork(name, wanted)
        except BadTenantName as error:
            return refuse(422, "bad_tenant_name", str(error), "choose another name")
        except TenantExists as error:
            return refuse(409, "tenant_exists", str(error), "choose another name")
        except RestoreRunning as error:
            return refuse(409, "restore_running", str(error), "wait until it is done")
        except NotRecorded as error:
            return refuse(503, "no_log", str(error), "try again")
        return JSONResponse(view.model_dump(mode="json"), status_code=202)

    @app.get("/api/tenants/{name}/forks/{fork}", dependencies=guarded)
    async def look_at_fork(name: str, fork: str) -> RestoreView:
        found = coordinator.restores.look(fork)
        if found is None or found.source != name:
            raise HTTPException(404, f"{fork!r} was not forked from {name!r}")
        return found

    @app.get("/api/tenants/{name}/export", dependencies=guarded)
    async def export(name: str, request: Request) -> Response:
        node = living(coordinator, name).node
        host = coordinator.observer.hosts.get(node.host) if node is not None else None
        if node is None or host is None or node.state in ENDED:
            return refuse(
                503, "not_running", f"{name} is on no host now", f"try `litefleet restore {name}`"
            )
        url = f"{host.address}/api/nodes/{name}/export"
        return await relayed(request, http, url, {"authorization": f"Bearer {token}"})

    @app.get("/api/tenants/{name}/epochs", dependencies=guarded)
    async def epochs(name: str) -> EpochList:
        owner = tenant_of(coordinator, name).owner
        hold = owner is not None and owner.record.hold
        return EpochList(items=await coordinator.epochs.of(name), hold=hold)

    async def held(name: str, hold: bool) -> Response:
        tenant_of(coordinator, name)
        try:
            changed = await coordinator.epochs.hold(name, hold)
        except NotHeld as error:
            return refuse(409, "never_started", str(error), "wait until it serves")
        view = HoldView(tenant=name, hold=hold, changed=changed)
        return JSONResponse(view.model_dump(mode="json"))

    @app.put("/api/tenants/{name}/hold", dependencies=guarded)
    async def hold(name: str) -> Response:
        return await held(name, True)

    @app.delete("/api/tenants/{name}/hold", dependencies=guarded)
    async def unhold(name: str) -> Response:
        return await held(name, False)
