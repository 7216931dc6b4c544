"""The gateway: lets requests in, holds them until somebody serves their tenant, passes them on."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from backup.limits import RequestLimits
from fleet.gateway.holding import AGAIN, GiveUp, Hold, Standing, Tried, Way, judge
from fleet.gateway.limits import Bucket, Refused, Room
from fleet.gateway.repeating import repeatable
from fleet.gateway.tally import Sample, Tally, samples
from fleet.proxy import Passed, TooLarge, Unreached, forward, streamed, unavailable
from fleet.settings import GatewaySettings

KEEP: Final = 65_536
"""Bytes of a body up to which it is kept, to be sent again. The server buffers as many of a larger
one, or of one whose length it is not told, before it stops reading; so this is also what a request
takes in memory at most."""
SILENCE: Final = 90.0
"""Seconds for which a node may say nothing before or while it answers."""

_REFUSALS: Final = {
    "rate": (429, "rate_limited", "more requests a second than {tenant} may get"),
    "concurrency": (429, "too_many_at_once", "as many requests as {tenant} may get are under way"),
    "body": (413, "body_too_large", "the body has more bytes than requests to {tenant} may have"),
}


@dataclass(slots=True)
class _Tenant:
    """What this gateway holds of one tenant."""

    room: Room = field(default_factory=Room)
    bucket: Bucket = field(default_factory=Bucket)
    tally: Tally = field(default_factory=Tally)
    waiting: set[asyncio.Future[None]] = field(default_factory=set)
    flights: dict[asyncio.Timeout, int] = field(default_factory=dict)
    """Deadlines of what is under way to a node, and that node's epoch."""


class Gate:
    """One process's way in to tenants."""

    def __init__(
        self,
        settings: GatewaySettings,
        find: Callable[[str], Standing],
        wanted: Callable[[str], None] = lambda name: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            find: where a tenant stands; called often.
            wanted: told again and again of a tenant for which requests are held.
            clock: seconds, monotonic.
        """
        self.settings = settings
        self.find = find
        self.wanted = wanted
        self.clock = clock
        self._tenants: dict[str, _Tenant] = {}
        self._clients: dict[str, httpx.AsyncClient] = {}

    def busy(self, tenant: str) -> bool:
        """Whether requests for a tenant are under way, held or not."""
        one = self._tenants.get(tenant)
        return one is not None and one.room.under_way > 0

    @property
    def held(self) -> frozenset[str]:
        """The tenants for which requests are held."""
        return frozenset(name for name, one in self._tenants.items() if one.room.held)

    def samples(self) -> list[Sample]:
        """What was done, as samples of `GATEWAY_METRICS`."""
        return list(samples({name: (one.tally, one.room) for name, one in self._tenants.items()}))

    def look(self) -> None:
        """Look again where the tenants stand for which anything is held or under way."""
        for name, one in self._tenants.items():
            if not one.waiting and not one.flights:
                continue
            standing = self.find(name)
            for deadline in [each for each, epoch in one.flights.items() if epoch < standing.epoch]:
                # Its node has lost the tenant: what it says does not count any more.
                del one.flights[deadline]
                deadline.reschedule(0.0)
            if standing.way is not None or not standing.coming:
                for waiter in one.waiting:
                    if not waiter.done():
                        waiter.set_result(None)
            elif one.waiting:
                # It may have been put to sleep after they came.
                self.wanted(name)

    async def pass_on(
        self,
        request: Request,
        tenant: str,
        path: str,
        limits: RequestLimits | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Answer a request for a tenant.

        Args:
            path: below the tenant's, without a slash before it.
            limits: the tenant's own, beside the fleet's.
            headers: for the node, beside the request's.
        """
        one = self._tenants.setdefault(tenant, _Tenant())
        allowed = self.settings.limits if limits is None else limits.over(self.settings.limits)
        refused = one.room.enter(one.bucket, self.clock(), allowed, length_of(request))
        if refused is not None:
            one.tally.outcomes[refused.why] += 1
            return _refusal(refused, tenant)
        going = _Going(self, one, tenant, path, request, allowed, headers or {})
        answer: Response | None = None
        try:
            outcome, answer = await going.to_its_end()
            one.tally.outcomes[outcome] += 1
            return answer
        finally:
            if isinstance(answer, Passed):
                answer.ended = going.over
            else:
                going.over()

    def client_of(self, server: str) -> httpx.AsyncClient:
        """A pool of connections to a `Way`'s server."""
        client = self._clients.get(server)
        if client is None:
            # One for each server: a pool is searched from end to end for every request that it
            # carries. How many connections there are is bounded by what each tenant may have under
            # way: one bound for all would let one tenant's long requests keep out another's. They
            # are given up before the other side does so, which would look like a lost request.
            pool = httpx.Limits(
                max_connections=None, max_keepalive_connections=32, keepalive_expiry=3.0
            )
            path = server.removeprefix("unix:") if server.startswith("unix:") else None
            client = self._clients[server] = httpx.AsyncClient(
                transport=httpx.AsyncHTTPTransport(uds=path, limits=pool),
                timeout=httpx.Timeout(SILENCE, connect=5.0),
            )
        return client


class _Going:
    """One request, from the moment at which it was let in."""

    def __init__(
        self,
        gate: Gate,
        one: _Tenant,
        tenant: str,
        path: str,
        request: Request,
        limits: RequestLimits,
        headers: Mapping[str, str],
    ) -> None:
        self._gate = gate
        self._one = one
        self._tenant = tenant
        self._path = path
        self._request = request
        self._most = limits.body_bytes or 0
        self._headers = headers
        self._length = length_of(request)
        self._body: bytes | None = None
        self._streaming = False
        self._was_held = False
        self._deadline: asyncio.Timeout | None = None

    async def to_its_end(self) -> tuple[str, Response]:
        """What was done with it, in a word, and the answer."""
        try:
            return await self._to_its_end()
        except TooLarge:
            return "body", _refusal(Refused("body", None), self._tenant)
        except ClientDisconnect:
            return "gone", Response(status_code=499)  # nobody is there to read it

    async def _to_its_end(self) -> tuple[str, Response]:
        clock, request = self._gate.clock, self._request
        if self._length is not None and self._length <= KEEP:
            self._body = await request.body()
        again = repeatable(
            request.method, self._path, request.query_params, request.headers, self._body
        )
        left = patience(request.headers, self._gate.settings.hold_seconds)
        tried: Tried | None = None
        why = ""
        while True:
            standing, now = self._gate.find(self._tenant), clock()
            step = judge(standing, tried, repeatable=again, now=now, until=now + left)
            sent = tried is not None and tried.sent
            if self._streaming:
                step = GiveUp(1)  # its body cannot be had again
            if isinstance(step, GiveUp):
                word = "lost" if sent else "unavailable"
                return word, unavailable(why or standing.why, step.retry_after, sent=sent)
            if isinstance(step, Hold):
                full = await self._hold(step.seconds)
                if full is not None:
                    why = f"as many requests to {self._tenant} are held as may be"
                    return full.why, unavailable(why, math.ceil(full.retry_after or 1), sent=sent)
                left -= clock() - now
                continue
            self._one.tally.resent += tried is not None
            answer = await self._send(step.way)
            if isinstance(answer, Passed):
                return "passed", answer
            tried, why = Tried(step.way, answer.sent or sent, clock() + AGAIN), answer.message

    async def _hold(self, seconds: float) -> Refused | None:
        """Wait for news of the tenant, or say why that is not possible. Raises ClientDisconnect."""
        size = KEEP if self._length is None else min(self._length, KEEP)
        room, settings, clock = self._one.room, self._gate.settings, self._gate.clock
        refused = room.hold(size, settings.hold_requests, settings.hold_bytes)
        if refused is not None:
            return refused
        tally, since = self._one.tally, clock()
        tally.holds += not self._was_held
        self._was_held = True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._one.waiting.add(waiter)
        self._gate.wanted(self._tenant)
        try:
            async with asyncio.timeout(seconds):
                await self._unless_gone(waiter)
        except TimeoutError:
            pass
        finally:
            self._one.waiting.discard(waiter)
            room.let_go(size)
            tally.hold_seconds += clock() - since
        return None

    async def _send(self, way: Way) -> Passed | Unreached:
        """Send it once. Raises TooLarge, ClientDisconnect."""

        def begun() -> None:
            self._streaming = True

        body = self._body
        content = streamed(self._request, self._most, begun) if body is None else body
        sending = asyncio.ensure_future(
            forward(
                self._request,
                self._gate.client_of(way.server),
                f"{base_of(way.server)}{way.prefix}/{self._path}",
                content,
                headers={**self._headers, **dict(way.headers)},
                oldest_epoch=lambda: self._gate.find(self._tenant).epoch,
            )
        )
        try:
            async with asyncio.timeout(None) as deadline:
                self._fly(deadline, way.epoch)
                await self._unless_gone(sending)
        except BaseException as error:
            await _abandon(sending)
            if not isinstance(error, TimeoutError):
                raise
            return Unreached(f"{self._tenant} was taken from the node that had it", sent=True)
        finally:
            self._land()
        answer = sending.result()
        if isinstance(answer, Passed):
            answer.began = lambda deadline: self._fly(deadline, way.epoch)
        return answer

    async def _unless_gone(self, awaited: asyncio.Future[Any]) -> None:
        """Wait for something, unless whoever asked goes away meanwhile. Raises ClientDisconnect."""
        if self._body is None:
            # What is read to find that out may be a part of the body.
            await asyncio.wait({awaited})
            return
        gone = asyncio.ensure_future(_disconnected(self._request))
        try:
            await asyncio.wait({awaited, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not awaited.done():
                raise ClientDisconnect
        finally:
            gone.cancel()
            await asyncio.wait({gone})

    def _fly(self, deadline: asyncio.Timeout, epoch: int) -> None:
        self._deadline = deadline
        self._one.flights[deadline] = epoch

    def _land(self) -> None:
        if self._deadline is not None:
            self._one.flights.pop(self._deadline, None)
            self._deadline = None

    def over(self) -> None:
        """It is not under way any more."""
        self._land()
        self._one.room.leave()


def length_of(request: Request) -> int | None:
    """The bytes of a request's body, None if it does not say."""
    given = request.headers.get("content-length")
    if given is None:
        return None if "transfer-encoding" in request.headers else 0
    return int(given) if given.isdigit() else None


def patience(headers: Mapping[str, str], most: float) -> float:
    """For how many seconds a request may be held: ``Prefer: wait=N`` (RFC 7240) can only lower
    it."""
    found = re.search(r"(?:^|[,;\s])wait\s*=\s*(\d{1,6})", headers.get("prefer", ""))
    return min(most, float(found[1])) if found else most


def base_of(server: str) -> str:
    """The URL of a `Way`'s server; what answers at a socket needs no name."""
    return "http://node" if server.startswith("unix:") else server


async def _abandon(sending: asyncio.Future[Passed | Unreached]) -> None:
    sending.cancel()
    await asyncio.wait({sending})
    if not sending.cancelled() and sending.exception() is None:
        answer = sending.result()
        if isinstance(answer, Passed):
            await answer.close()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _refusal(refused: Refused, tenant: str) -> Response:
    status, kind, message = _REFUSALS[refused.why]
    after = None if refused.retry_after is None else max(1, math.ceil(refused.retry_after))
    hint = "send less in one request" if after is None else f"try again in {after} s"
    return JSONResponse(
        {
            "error": {"type": kind, "message": message.format(tenant=tenant), "hint": hint},
            "outcome": "not_sent",
        },
        status_code=status,
        headers={} if after is None else {"retry-after": str(after)},
    )
