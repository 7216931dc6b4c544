"""The host agent's HTTP: orders from the coordinator, and the way to this host's tenants."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, JSONResponse, Response

from backup.copies import Copy
from backup.errors import StoreError
from backup.receipts import HostRemains
from backup.sealing import BadKeys
from fleet.agent.agent import Agent
from fleet.agent.doorway import NoTenant
from fleet.agent.drilling import DrillDone, DrillRequest, Rehearsal, RehearsalRequest
from fleet.agent.metrics import of_engines, of_host
from fleet.agent.nodes import (
    AlreadyHere,
    Chain,
    CodeRequest,
    NoAuthority,
    NotHere,
    StartRequest,
)
from fleet.proxy import (
    COORDINATOR_EPOCH_HEADER,
    EPOCH_HEADER,
    EXPORT_HEADER,
    PASSED_HEADER,
    SENDER_HEADER,
    Passed,
    Unreached,
    forward,
    is_webhook,
    streamed,
    unavailable,
)
from fleet.remains_views import RemainsList
from fleet.runtimes.accounts import NoAccount
from node.checks import CheckStatus
from node.order import NodeStatus
from node.wire import WireError
from restore.errors import Damaged, RestoreFailed

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
MAX_WAIT = 30.0
"""Seconds at most for which a look at the nodes waits for a change."""


class NodeList(BaseModel):
    """All nodes of a host. ``version`` grows with every change; give it back as ``after``.
    ``sought`` are tenants that sleep and for which the host holds requests."""

    incarnation: str
    version: int
    nodes: list[NodeStatus]
    sought: list[str] = []


def create_app(agent: Agent, token: str) -> FastAPI:
    """The agent's application; every path but ``/healthz`` needs the fleet's token."""
    app = FastAPI(title="Litefleet host agent", docs_url=None, redoc_url=None, openapi_url=None)
    clients: dict[str, httpx.AsyncClient] = {}

    async def bearer(request: Request) -> None:
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise HTTPException(
                401, {"type": "unauthorized", "message": "the token is missing or wrong"}
            )
        epoch = request.headers.get(COORDINATOR_EPOCH_HEADER, "")
        if epoch.isdigit() and not agent.heard_of(int(epoch)) and request.method != "GET":
            message = f"a coordinator of a later epoch than {epoch} has been here"
            raise HTTPException(409, {"type": "stale_coordinator", "message": message})

    guarded = [Depends(bearer)]

    @app.exception_handler(HTTPException)
    async def told(request: Request, error: HTTPException) -> Response:
        return JSONResponse({"error": error.detail}, status_code=error.status_code)

    @app.get("/healthz")
    async def healthz() -> dict[str, bool]:
        return {"ok": True}

    @app.get("/api/nodes", dependencies=guarded)
    async def nodes(after: int = -1, wait: float = 0.0) -> NodeList:
        await agent.nodes.changed(after, min(wait, MAX_WAIT))
        return NodeList(
            incarnation=agent.incarnation or "",
            version=agent.nodes.version,
            nodes=agent.nodes.statuses(),
            sought=agent.doorway.sought,
        )

    @app.post("/api/nodes/{tenant}", status_code=202, dependencies=guarded)
    async def start(tenant: str, request: StartRequest) -> NodeStatus:
        try:
            return await agent.start(tenant, request)
        except AlreadyHere as error:
            raise HTTPException(409, {"type": "already_here", "message": str(error)}) from error
        except NoAccount as error:
            raise HTTPException(507, {"type": "no_account", "message": str(error)}) from error
        except NoAuthority as error:
            raise HTTPException(503, {"type": "no_authority", "message": str(error)}) from error

    @app.post("/api/nodes/{tenant}/check", status_code=202, dependencies=guarded)
    async def check(tenant: str, request: CodeRequest) -> CheckStatus:
        with _reached():
            return await agent.nodes.check(tenant, request)

    @app.get("/api/nodes/{tenant}/check", dependencies=guarded)
    async def look_at_check(tenant: str, wait: float = 0.0) -> CheckStatus:
        with _reached():
            found = await agent.nodes.look_at_check(tenant, min(wait, MAX_WAIT))
        if found is None:
            message = f"{tenant} has no check on {agent.host}"
            raise HTTPException(404, {"type": "no_check", "message": message})
        return found

    @app.post("/api/nodes/{tenant}/upgrade", status_code=202, dependencies=guarded)
    async def upgrade(tenant: str, request: CodeRequest) -> dict[str, bool]:
        with _reached():
            await agent.nodes.upgrade(tenant, request)
        return {"ok": True}

    @app.post("/api/nodes/{tenant}/drain", status_code=202, dependencies=guarded)
    async def drain(tenant: str) -> dict[str, bool]:
        await agent.nodes.drain(tenant)
        return {"ok": True}

    @app.get("/api/nodes/{tenant}/chain", dependencies=guarded)
    async def chain(tenant: str, sequence: int) -> Chain:
        found = await agent.nodes.chain_at(tenant, sequence)
        if found is None:
            raise HTTPException(
                404, {"type": "not_here", "message": f"{tenant} has no live log on {agent.host}"}
            )
        return found

    @app.post("/api/nodes/{tenant}/copy", dependencies=guarded)
    async def copy(tenant: str) -> Copy:
        try:
            made = await agent.nodes.copy(tenant)
        except (WireError, BadKeys) as error:
            raise HTTPException(503, {"type": "not_copied", "message": str(error)}) from error
        if made is None:
            raise HTTPException(
                404, {"type": "not_here", "message": f"{tenant} has no live log on {agent.host}"}
            )
        return made

    @app.get("/api/nodes/{tenant}/export", dependencies=guarded)
    async def export(tenant: str) -> Response:
        try:
            made = await agent.nodes.export(tenant)
        except WireError as error:
            raise HTTPException(503, {"type": "not_exported", "message": str(error)}) from error
        if made is None:
            raise HTTPException(
                404, {"type": "not_here", "message": f"{tenant} has no live log on {agent.host}"}
            )
        about, file = made
        return FileResponse(
            file,
            media_type="application/vnd.sqlite3",
            headers={EXPORT_HEADER: about.model_dump_json()},
            background=BackgroundTask(file.unlink, missing_ok=True),
        )

    @app.get("/api/remains", dependencies=guarded)
    async def look_at_remains() -> RemainsList:
        try:
            return RemainsList(items=await asyncio.to_thread(agent.tidying.look))
        except StoreError as error:
            raise HTTPException(
                503, {"type": "store_unavailable", "message": str(error)}
            ) from error

    @app.delete("/api/remains/{tenant}", dependencies=guarded)
    async def remove_remains(tenant: str, epoch: int) -> HostRemains:
        try:
            return await agent.nodes.remove_remains(tenant, epoch)
        except AlreadyHere as error:
            raise HTTPException(409, {"type": "already_here", "message": str(error)}) from error

    @app.post("/api/drills/{tenant}", dependencies=guarded)
    async def drill(tenant: str, request: DrillRequest) -> DrillDone:
        try:
            return await agent.drills.drill(tenant, request)
        except StoreError as error:
            raise HTTPException(
                503, {"type": "store_unavailable", "message": str(error)}
            ) from error

    @app.post("/api/rehearsals/{tenant}", dependencies=guarded)
    async def rehearse(tenant: str, request: RehearsalRequest) -> Rehearsal:
        try:
            return await agent.drills.rehearse(tenant, request)
        except ValueError as error:
            raise HTTPException(422, {"type": "bad_moment", "message": str(error)}) from error
        except Damaged as error:
            raise HTTPException(409, {"type": "damaged", "message": str(error)}) from error
        except RestoreFailed as error:
            raise HTTPException(409, {"type": "no_such_state", "message": str(error)}) from error
        except StoreError as error:
            raise HTTPException(
                503, {"type": "store_unavailable", "message": str(error)}
            ) from error

    @app.get("/metrics", dependencies=guarded)
    async def metrics() -> Response:
        nodes = [node.status for node in agent.nodes.running()]
        reached = {node.api_socket: client_of(node.api_socket) for node in nodes if node.serving}
        text = of_host(nodes, await of_engines(nodes, reached), agent.doorway.gate.samples())
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    def client_of(socket: str) -> httpx.AsyncClient:
        client = clients.get(socket)
        if client is None:
            client = httpx.AsyncClient(
                transport=httpx.AsyncHTTPTransport(
                    uds=socket, verify=False, limits=httpx.Limits(max_connections=256)
                ),
                timeout=httpx.Timeout(90.0, connect=2.0),
            )
            clients[socket] = client
            _forget_ended(agent, clients)
        return client

    @app.api_route(
        "/{tenant}/{path:path}", methods=METHODS, dependencies=guarded, include_in_schema=False
    )
    async def gateway(tenant: str, path: str, request: Request) -> Response:
        if PASSED_HEADER not in request.headers:
            try:
                passed = await agent.doorway.pass_on(request, tenant, path)
            except NoTenant as error:
                raise HTTPException(404, {"type": "not_found", "message": str(error)}) from error
            except StoreError as error:
                return unavailable(f"where {tenant} runs cannot be read: {error}", sent=False)
            return await _with_authority(agent, passed)
        node = agent.nodes.live(tenant)
        if node is None or not node.status.serving:
            return unavailable(f"{tenant} is not served by {agent.host}", sent=False)
        client = client_of(node.status.api_socket)
        sender = request.headers.get(SENDER_HEADER) if is_webhook(path) else None
        headers = {"authorization": sender} if sender else None
        answer = await forward(
            request, client, f"http://node/{path}", streamed(request), headers=headers
        )
        if isinstance(answer, Unreached):
            return unavailable(answer.message, sent=answer.sent)
        answer.headers.setdefault(EPOCH_HEADER, str(node.status.epoch))
        return await _with_authority(agent, answer)

    return app


async def _with_authority(agent: Agent, answer: Response) -> Response:
    if agent.has_authority or not isinstance(answer, Passed):
        return answer
    # A zombie's engine may have answered before its end came: nobody may rely on that.
    answer.ended()
    await answer.close()
    return unavailable(f"{agent.host} has lost its authority")


@contextmanager
def _reached() -> Iterator[None]:
    """Whatever is wrong with reaching a node is an answer."""
    try:
        yield
    except NotHere as error:
        raise HTTPException(404, {"type": "not_here", "message": str(error)}) from error
    except WireError as error:
        raise HTTPException(409, {"type": "refused", "message": str(error)}) from error


def _forget_ended(agent: Agent, clients: dict[str, httpx.AsyncClient]) -> None:
    serving = {node.status.api_socket for node in agent.nodes.running()}
    for socket in [socket for socket in clients if socket not in serving]:
        del clients[socket]
