"""Passing an HTTP request on, as it streams, and its answer back."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import httpx
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

EPOCH_HEADER = "litefleet-epoch"
COORDINATOR_EPOCH_HEADER = "litefleet-coordinator-epoch"
"""Of a coordinator's request to an agent: the epoch at which it is the active one."""
EXPORT_HEADER = "litefleet-export"
"""What an exported database is: `backup.copies.Copy` as JSON."""
SENDER_HEADER = "litefleet-authorization"
"""Between coordinator and agent: what a webhook's sender gave as its authorization."""

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailers",
        "transfer-encoding",
        "upgrade",
        "host",
        "authorization",
        SENDER_HEADER,
    }
)
"""Headers that are for one hop only. The fleet's own token ends at the gateway too."""
_OWN = frozenset({"date", "server"})
"""Headers that this server puts on every answer itself."""


_WEBHOOK = re.compile(r"webhooks(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+")


def is_webhook(path: str) -> bool:
    """Whether a path below a tenant's leads to a webhook, which checks its senders itself: they
    have no token of the fleet's.

    Nothing with a percent sign or a segment that begins with a dot is one: further on it could
    be read as another path.
    """
    return _WEBHOOK.fullmatch(path) is not None


def unavailable(message: str, retry_after: int = 1) -> JSONResponse:
    """503: nothing is known of the request's outcome, and it may be tried again."""
    return JSONResponse(
        {
            "error": {
                "type": "unavailable",
                "message": message,
                "hint": "try again; a request with an id of its own is not run twice",
            },
            "outcome": "unknown",
        },
        status_code=503,
        headers={"retry-after": str(retry_after)},
    )


async def forward(
    request: Request,
    client: httpx.AsyncClient,
    url: str,
    *,
    headers: dict[str, str] | None = None,
    oldest_epoch: int = 0,
) -> Response:
    """Send ``request`` on to ``url`` once, and stream the answer back.

    It is never sent a second time: without an idempotency key nobody knows what the first did.
    An answer of an epoch below ``oldest_epoch`` comes from a node that has lost its tenant, and
    is discarded.
    """
    passed = {name: value for name, value in request.headers.items() if name not in _HOP_BY_HOP} | (
        headers or {}
    )
    query = f"?{request.url.query}" if request.url.query else ""
    has_body = "content-length" in request.headers or "transfer-encoding" in request.headers
    outgoing = client.build_request(
        request.method,
        url + query,
        headers=passed,
        content=_body(request) if has_body else None,
    )
    try:
        answer = await client.send(outgoing, stream=True)
    except httpx.HTTPError as error:
        return unavailable(f"the tenant's node did not answer ({type(error).__name__})")
    epoch = answer.headers.get(EPOCH_HEADER, "")
    if epoch.isdigit() and int(epoch) < oldest_epoch:
        await answer.aclose()
        return unavailable(f"an answer of epoch {epoch} came after epoch {oldest_epoch} began")
    passing = answer.headers.items()
    kept = {name: value for name, value in passing if name not in _HOP_BY_HOP | _OWN}
    return StreamingResponse(
        answer.aiter_raw(),
        status_code=answer.status_code,
        headers=kept,
        background=BackgroundTask(answer.aclose),
    )


async def _body(request: Request) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        if chunk:
            yield chunk
