"""Passing an HTTP request on, as it streams, and its answer back."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

EPOCH_HEADER = "litefleet-epoch"
COORDINATOR_EPOCH_HEADER = "litefleet-coordinator-epoch"
"""Of a coordinator's request to an agent: the epoch at which it is the active one."""
EXPORT_HEADER = "litefleet-export"
"""What an exported database is: `backup.copies.Copy` as JSON."""
SENDER_HEADER = "litefleet-authorization"
"""Between coordinator and agent: what a webhook's sender gave as its authorization."""
PASSED_HEADER = "litefleet-passed"
"""From one gateway to the next: it was let in, and is held, where it came in."""
UNSENT_HEADER = "litefleet-unsent"
"""From one gateway to the one before it: no engine has got anything of this request."""

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
        PASSED_HEADER,
        UNSENT_HEADER,
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


def unavailable(message: str, retry_after: int = 1, *, sent: bool = True) -> JSONResponse:
    """503: it may be tried again. Of a request that was ``sent`` nobody knows the outcome; one that
    was not has had none."""
    hint = (
        "try again; a request with an id of its own is not run twice"
        if sent
        else "try again; it reached no engine"
    )
    headers = {"retry-after": str(retry_after)}
    if not sent:
        headers[UNSENT_HEADER] = "1"
    return JSONResponse(
        {
            "error": {"type": "unavailable", "message": message, "hint": hint},
            "outcome": "unknown" if sent else "not_sent",
        },
        status_code=503,
        headers=headers,
    )


class TooLarge(Exception):
    """A body had more bytes than it may have; parts of it may have been sent."""


@dataclass(frozen=True, slots=True)
class Unreached:
    """A request that was not answered. ``sent``: an engine may have got it, or parts of it."""

    message: str
    sent: bool


class Passed(StreamingResponse):
    """An answer on its way back. ``began`` is told of a deadline for it, none at first, which may
    be set at any time; ``ended`` is called when it is over, however it ends."""

    def __init__(self, answer: httpx.Response) -> None:
        passing = answer.headers.items()
        kept = {name: value for name, value in passing if name not in _HOP_BY_HOP | _OWN}
        super().__init__(answer.aiter_raw(), status_code=answer.status_code, headers=kept)
        self._answer = answer
        self.began: Callable[[asyncio.Timeout], None] = lambda deadline: None
        self.ended: Callable[[], None] = lambda: None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(None) as deadline:
                self.began(deadline)
                await super().__call__(scope, receive, send)
        except (httpx.HTTPError, TimeoutError):
            # It has begun. A return without its end has the server close the connection, so that
            # nobody takes it for whole.
            return
        finally:
            self.ended()
            await self.close()

    async def close(self) -> None:
        """Give up what is left of it."""
        await self._answer.aclose()


async def forward(
    request: Request,
    client: httpx.AsyncClient,
    url: str,
    content: bytes | AsyncIterator[bytes] | None,
    *,
    headers: Mapping[str, str] | None = None,
    oldest_epoch: Callable[[], int] = lambda: 0,
) -> Passed | Unreached:
    """Send ``request`` on to ``url`` once, and stream the answer back.

    An answer of an epoch below ``oldest_epoch()`` comes from a node that has lost its tenant, and
    is discarded.

    Args:
        content: its body, such as `streamed` gives it.
        headers: to be sent beside its own.

    Raises:
        Exception: whatever reading ``content`` raises.
    """
    passed = {name: value for name, value in request.headers.items() if name not in _HOP_BY_HOP}
    query = f"?{request.url.query}" if request.url.query else ""
    more = dict(headers or {})
    outgoing = client.build_request(
        request.method, url + query, headers=passed | more, content=content or None
    )
    try:
        answer = await client.send(outgoing, stream=True)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        return Unreached(f"the tenant's node did not answer ({type(error).__name__})", sent=False)
    except httpx.HTTPError as error:
        return Unreached(f"the tenant's node did not answer ({type(error).__name__})", sent=True)
    epoch, oldest = answer.headers.get(EPOCH_HEADER, ""), oldest_epoch()
    if epoch.isdigit() and int(epoch) < oldest:
        await answer.aclose()
        return Unreached(f"an answer of epoch {epoch} came after epoch {oldest} began", sent=True)
    if answer.status_code == 503 and UNSENT_HEADER in answer.headers and PASSED_HEADER in more:
        message = await _message(answer)
        return Unreached(message or "the next gateway could not reach the node", sent=False)
    return Passed(answer)


async def relayed(
    request: Request, client: httpx.AsyncClient, url: str, headers: Mapping[str, str]
) -> Response:
    """As `forward`, of a request without a body; 503 where there is no answer."""
    answer = await forward(request, client, url, None, headers=headers)
    return unavailable(answer.message) if isinstance(answer, Unreached) else answer


async def _message(answer: httpx.Response) -> str:
    try:
        await answer.aread()
        return str(answer.json()["error"]["message"])
    except (httpx.HTTPError, ValueError, LookupError, TypeError):
        return ""
    finally:
        await answer.aclose()


def streamed(
    request: Request, most: int = 0, begun: Callable[[], None] = lambda: None
) -> AsyncIterator[bytes] | None:
    """The body of a request as it comes, None if it has none.

    Args:
        most: bytes that it may have, 0 for no limit. Reading more raises `TooLarge`.
        begun: called when the first part is asked for; from then on it cannot be had again.
    """
    if "content-length" not in request.headers and "transfer-encoding" not in request.headers:
        return None
    return _parts(request, most, begun)


async def _parts(request: Request, most: int, begun: Callable[[], None]) -> AsyncIterator[bytes]:
    begun()
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if most and size > most:
            raise TooLarge
        if chunk:
            yield chunk
