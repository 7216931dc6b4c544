"""What a coordinator answers: the fleet's API while it is the active one, and before and after that
whatever the active one answers."""

from __future__ import annotations

import hmac
from collections.abc import Callable

import httpx
from fastapi import Depends, FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from fleet.coordinator.picture import SUSPECT_AFTER
from fleet.coordinator.seat import Seat
from fleet.proxy import Unreached, forward, streamed, unavailable
from fleet.views import CoordinatorList

PASSED_ON = "litefleet-passed-on"
"""Header of a request that another coordinator has passed on: it is not passed on again."""


class Front:
    """An application in front of the two."""

    def __init__(self, waiting: ASGIApp) -> None:
        """
        Args:
            waiting: answers while this is not the active coordinator.
        """
        self.waiting = waiting
        self.active: ASGIApp | None = None
        """Answers while it is."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self.active or self.waiting)(scope, receive, send)


def add_coordinators(app: FastAPI, seat: Seat | None, bearer: Callable[..., object]) -> None:
    """Add the route that shows the coordinators."""

    @app.get("/api/coordinators", dependencies=[Depends(bearer)])
    async def coordinators() -> CoordinatorList:
        return CoordinatorList(items=seat.views() if seat is not None else [])


def waiting_app(seat: Seat, token: str) -> FastAPI:
    """What a coordinator answers that is not the active one: it passes requests on to that."""
    app = FastAPI(title="Litefleet", docs_url=None, redoc_url=None, openapi_url=None)
    client = httpx.AsyncClient(timeout=httpx.Timeout(900.0, connect=2.0))

    async def bearer(request: Request) -> None:
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise HTTPException(401, "the token is missing or wrong")

    @app.exception_handler(HTTPException)
    async def told(request: Request, error: HTTPException) -> Response:
        problem = {"type": "unauthorized", "message": error.detail, "hint": None}
        return JSONResponse({"error": problem}, status_code=error.status_code)

    @app.get("/healthz")
    async def healthz() -> dict[str, bool]:
        return {"ok": True}

    add_coordinators(app, seat, bearer)

    @app.api_route(
        "/{path:path}",
        methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        include_in_schema=False,
    )
    async def passed_on(path: str, request: Request) -> Response:
        active = seat.active()
        if active is None or active.name == seat.name or PASSED_ON in request.headers:
            return unavailable(
                "no coordinator is active now; one takes over within 20 s", 2, sent=False
            )
        if active.lease_age_seconds >= SUSPECT_AFTER:
            return unavailable(
                "the active coordinator is silent; it may have to be replaced", 2, sent=False
            )
        headers = {PASSED_ON: seat.name}
        if given := request.headers.get("authorization"):
            headers["authorization"] = given
        # The path as it came: decoded, it could be read as another one.
        raw = request.scope.get("raw_path", request.url.path.encode()).decode("ascii")
        url = f"{active.address}{raw.partition('?')[0]}"
        answer = await forward(request, client, url, streamed(request), headers=headers)
        if isinstance(answer, Unreached):
            return unavailable(answer.message, 2, sent=answer.sent)
        return answer

    return app
