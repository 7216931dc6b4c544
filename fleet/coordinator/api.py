"""The fleet's HTTP API, and the gateway to its tenants."""

from __future__ import annotations

import hmac
import time
from typing import Annotated

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from backup.copies import Copy
from backup.errors import StoreError
from backup.keys import BadTenantName
from backup.lease import LeaseState
from fleet.coordinator.account import Tenant, TenantExists
from fleet.coordinator.asking import note_asker
from fleet.coordinator.coordinator import Coordinator
from fleet.coordinator.deletions_api import add_deletions
from fleet.coordinator.front import add_coordinators
from fleet.coordinator.history_api import add_history
from fleet.coordinator.lifecycle_api import add_lifecycle
from fleet.coordinator.lookup import living, tenant_of
from fleet.coordinator.metrics import exposed
from fleet.coordinator.paging import MOST, page
from fleet.coordinator.picture import SUSPECT_AFTER
from fleet.coordinator.restores_api import add_restores
from fleet.coordinator.rounds import NoHost
from fleet.coordinator.seat import Seat
from fleet.coordinator.upgrades import UpgradeRunning
from fleet.proxy import PASSED_HEADER, SENDER_HEADER, is_webhook, unavailable
from fleet.views import (
    CopyList,
    CopyView,
    DrillsList,
    DrillsView,
    DrillView,
    Executions,
    HostList,
    HostState,
    HostView,
    LagList,
    LagView,
    LoadView,
    TenantList,
    TenantState,
    TenantView,
    TenantWanted,
    Timeline,
    UpgradeView,
    UpgradeWanted,
)
from node.order import ENDED, NodeStatus
from restore.drill import Drill, DrillRecord

Limit = Annotated[int, Query(ge=1, le=MOST)]
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
TOLD: dict[int, tuple[str, str | None]] = {
    401: ("unauthorized", "send the header Authorization: Bearer <token>"),
    404: ("not_found", None),
    405: ("method_not_allowed", None),
    410: (
        "tenant_deleted",
        "`litefleet tenant list --deleted` tells until when it can be brought back",
    ),
}
"""The kind of an error by its status, and what to do about it."""


class Resumed(BaseModel):
    """Hosts whose loss was confirmed."""

    hosts: list[str]


def create_app(coordinator: Coordinator, token: str, seat: Seat | None = None) -> FastAPI:
    """The coordinator's application.

    Every path needs the fleet's token, but ``/healthz``, the description of the API itself
    (``/docs``, ``/openapi.json``), and the tenants' webhooks.
    """
    app = FastAPI(title="Litefleet", docs_url="/docs", redoc_url=None)

    async def bearer(request: Request) -> None:
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise HTTPException(401, "the token is missing or wrong")
        note_asker(request)

    guarded = [Depends(bearer)]

    @app.exception_handler(HTTPException)
    async def told(request: Request, error: HTTPException) -> Response:
        kind, hint = TOLD.get(error.status_code, ("error", None))
        return _error(error.status_code, kind, error.detail, hint)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        return _error(422, "invalid", f"{where}: {first['msg']}", "see /docs for what is expected")

    @app.exception_handler(StoreError)
    async def store_failed(request: Request, error: StoreError) -> Response:
        return _error(
            503, "store_unavailable", str(error), "try again; `litefleet doctor` tells more"
        )

    @app.get("/healthz")
    async def healthz() -> dict[str, bool]:
        return {"ok": True}

    @app.get("/metrics", dependencies=guarded)
    async def metrics() -> Response:
        text, media_type = exposed(
            [_tenant(coordinator, name, known) for name, known in coordinator.tenants.items()],
            [_host(coordinator, name) for name in coordinator.observer.hosts],
            verified={name: one.verified_at for name, one in coordinator.drills.known.items()},
            noted=coordinator.timeline.counts,
            braked=len(coordinator.braked_hosts),
            gateway=coordinator.gate.samples(),
        )
        return Response(text, media_type=media_type)

    @app.post("/api/tenants", status_code=201, dependencies=guarded)
    async def create(wanted: TenantWanted) -> Response:
        try:
            tenant = await coordinator.create(
                wanted.name, wanted.app, wanted.durability, wanted.env
            )
        except BadTenantName as error:
            return _error(422, "bad_tenant_name", str(error), "choose another name")
        except TenantExists as error:
            return _error(
                409, "tenant_exists", str(error), f"see `litefleet tenant show {wanted.name}`"
            )
        view = _tenant(coordinator, wanted.name, tenant)
        return JSONResponse(view.model_dump(mode="json"), status_code=201)

    def living_view(name: str) -> TenantView | None:
        known = coordinator.tenants[name]
        return _tenant(coordinator, name, known) if known.wanted.deletion is None else None

    @app.get("/api/tenants", dependencies=guarded)
    async def tenants(
        after: str = "",
        limit: Limit = MOST,
        state: TenantState | None = None,
        host: str | None = None,
    ) -> TenantList:
        def wanted(name: str) -> TenantView | None:
            view = living_view(name)
            if view is None or (state is not None and view.state != state):
                return None
            return view if host is None or view.host == host else None

        items, following = page(coordinator.tenants, after, limit, wanted)
        return TenantList(items=items, next=following)

    @app.get("/api/tenants/{name}", dependencies=guarded)
    async def tenant(name: str) -> TenantView:
        return _tenant(coordinator, name, tenant_of(coordinator, name))

    @app.post("/api/tenants/{name}/upgrade", status_code=202, dependencies=guarded)
    async def upgrade(name: str, wanted: UpgradeWanted) -> Response:
        living(coordinator, name)
        try:
            view = coordinator.upgrades.begin(name, wanted)
        except UpgradeRunning as error:
            return _error(409, "upgrade_running", str(error), "wait until it is done")
        return JSONResponse(view.model_dump(mode="json"), status_code=202)

    @app.get("/api/tenants/{name}/upgrade", dependencies=guarded)
    async def look_at_upgrade(name: str) -> UpgradeView:
        found = coordinator.upgrades.look(name)
        if found is None:
            raise HTTPException(404, f"{name!r} was not upgraded since this coordinator began")
        return found

    @app.get("/api/hosts", dependencies=guarded)
    async def hosts(
        after: str = "", limit: Limit = MOST, state: HostState | None = None
    ) -> HostList:
        def wanted(name: str) -> HostView | None:
            view = _host(coordinator, name)
            return view if state is None or view.state == state else None

        items, following = page(coordinator.observer.hosts, after, limit, wanted)
        return HostList(items=items, next=following)

    @app.get("/api/lag", dependencies=guarded)
    async def lag(after: str = "", limit: Limit = MOST) -> LagList:
        views, following = page(coordinator.tenants, after, limit, living_view)
        items = [LagView(tenant=view.name, **view.model_dump()) for view in views]
        return LagList(items=items, next=following)

    @app.get("/api/timeline", dependencies=guarded)
    async def timeline(after: int = 0, limit: int = 1000) -> Timeline:
        entries = coordinator.timeline.after(after, min(limit, 1000))
        return Timeline(items=entries, next=str(entries[-1].n) if entries else None)

    @app.get("/api/drills", dependencies=guarded)
    async def drills() -> DrillsList:
        return DrillsList(items=[_drills(one) for one in await coordinator.drills.all()])

    @app.post("/api/tenants/{name}/drill", dependencies=guarded)
    async def drill(name: str) -> Response:
        living(coordinator, name)
        try:
            done = await coordinator.drills.drill(name)
        except NoHost as error:
            return _error(503, "no_host", str(error), "see `litefleet host list`, and try again")
        return JSONResponse(_drill(done).model_dump(mode="json"))

    @app.get("/api/tenants/{name}/copies", dependencies=guarded)
    async def copies(name: str) -> CopyList:
        tenant_of(coordinator, name)
        return CopyList(items=[_copy(one) for one in await coordinator.copies.of(name)])

    @app.post("/api/tenants/{name}/copies", dependencies=guarded)
    async def copy(name: str) -> Response:
        living(coordinator, name)
        try:
            made = await coordinator.copies.copy(name)
        except NoHost as error:
            return _error(503, "no_host", str(error), f"see `litefleet tenant show {name}`")
        return JSONResponse(_copy(made).model_dump(mode="json"))

    add_restores(app, coordinator, guarded, _error, token)
    add_lifecycle(
        app,
        coordinator,
        guarded,
        _error,
        tenant_view=lambda name: _tenant(coordinator, name, coordinator.tenants[name]),
        host_view=lambda name: _host(coordinator, name),
    )
    add_deletions(app, coordinator, guarded, _error, token)
    add_history(app, coordinator, guarded, _error)
    add_coordinators(app, seat, bearer)

    @app.post("/api/resume", dependencies=guarded)
    async def resume() -> Resumed:
        return Resumed(hosts=list(coordinator.resume()))

    @app.api_route("/{tenant}/{path:path}", methods=METHODS, include_in_schema=False)
    async def gateway(tenant: str, path: str, request: Request) -> Response:
        headers = {"authorization": f"Bearer {token}", PASSED_HEADER: "1"}
        if not is_webhook(path):
            await bearer(request)
        elif sender := request.headers.get("authorization"):
            headers[SENDER_HEADER] = sender
        if tenant not in coordinator.tenants and not coordinator.knows:
            return unavailable("the coordinator has just been started", sent=False)
        wanted = living(coordinator, tenant).wanted
        return await coordinator.gate.pass_on(request, tenant, path, wanted.limits, headers)

    return app


def _error(status: int, kind: str, message: str, hint: str | None) -> JSONResponse:
    return JSONResponse(
        {"error": {"type": kind, "message": message, "hint": hint}}, status_code=status
    )


def _tenant(coordinator: Coordinator, name: str, tenant: Tenant) -> TenantView:
    owner = tenant.owner.record if tenant.owner else None
    node = tenant.node
    watched = coordinator.observer.hosts.get(owner.host) if owner else None
    seen = watched.seen(time.monotonic()) if watched else None
    view: dict[str, object] = {
        "name": name,
        "app": tenant.wanted.app,
        "kept": tenant.wanted.kept,
        "release": tenant.wanted.release,
        "durability": tenant.wanted.durability,
        "state": tenant.state(seen),
        "host": owner.host or None if owner else None,
        "epoch": owner.epoch if owner else 0,
        "lineage": owner.lineage if owner else None,
        "recoveries": tenant.recoveries,
        "hold": owner.hold if owner else False,
        "asleep": tenant.wanted.asleep,
        "sleep_after": tenant.wanted.sleep_after,
        "limits": tenant.wanted.limits,
        "next_wake": owner.next_wake if owner and tenant.wanted.asleep else None,
        "origin": f"{owner.origin.tenant} {owner.origin.bookmark}"
        if owner and owner.origin
        else None,
        "deletion": coordinator.deletions.view(name, tenant)
        if tenant.wanted.deletion is not None
        else None,
    }
    if node is not None and owner is not None and node.epoch == owner.epoch:
        lag = node.lag
        # What a silent host said last is not how things are: its lag is not known.
        answers = seen is not None and seen.nodes is not None
        known = answers and view["state"] == "active"
        silence = "" if answers else f"{node.host} does not answer"
        view |= {
            "serving": answers and node.serving and node.state not in ENDED,
            "detail": node.detail or _trouble(node) or silence,
            "executions": Executions(**node.executions),
            "sequence": lag.sequence,
            "proven_sequence": lag.proven_sequence,
            "txid": lag.txid,
            "replicated_txid": lag.replicated_txid,
            "lag_seconds": lag.seconds if known else None,
            "lag_txids": lag.txids if known else None,
            "lag_bytes": lag.bytes if known else None,
            "proven_at": lag.proven_at,
            "alerts": [alert.model_dump() for alert in node.alerts] if answers else [],
        }
    return TenantView.model_validate(view)


def _drill(drill: Drill) -> DrillView:
    return DrillView.model_validate({**drill.model_dump(), "bookmark": drill.bookmark})


def _copy(copy: Copy) -> CopyView:
    return CopyView.model_validate(
        {**copy.model_dump(), "name": copy.name, "bookmark": copy.bookmark}
    )


def _drills(record: DrillRecord) -> DrillsView:
    return DrillsView(
        tenant=record.tenant,
        verified_at=record.verified_at,
        drills=[_drill(drill) for drill in record.drills],
    )


def _trouble(node: NodeStatus) -> str:
    """The last thing that went wrong with a node that does not serve, without its time."""
    if node.serving or not node.incidents:
        return ""
    return node.incidents[-1].partition(" ")[2]


def _host(coordinator: Coordinator, name: str) -> HostView:
    host = coordinator.observer.hosts[name]
    wanted = coordinator.cordons.known.get(name)
    age = max(0.0, time.time() - host.changed_at)
    lease = host.lease.record
    state: HostState = "live" if age < SUSPECT_AFTER else "suspect"
    if lease.state is LeaseState.FENCED:
        state = "fenced"
    return HostView(
        name=name,
        state=state,
        incarnation=lease.incarnation,
        address=host.address or None,
        tenants=sorted(node.tenant for node in host.nodes if node.state not in ENDED)
        if state != "fenced"
        else [],
        lease_age_seconds=age,
        cordoned=wanted is not None and wanted.cordoned,
        draining=wanted is not None and wanted.draining,
        why=wanted.why if wanted is not None else "",
        load=LoadView.model_validate(lease.load.model_dump(exclude={"address"})),
    )
