"""Several addresses of one fleet: its coordinators, any of which answers for all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import httpx

REFUSED = (httpx.ConnectError, httpx.ConnectTimeout)
"""Nothing of the request has been sent, so that it may be sent elsewhere."""
KNOWN_FOR = 5.0
"""Seconds for which an address that has answered is not asked first whether it does: one that is
frozen takes connections and requests, and a request that was sent is not sent again."""
PROBE_WITHIN = 2.0
"""Seconds for it to answer that."""


def addresses_of(text: str) -> list[str]:
    """The addresses in a list with commas between them, at least one."""
    found = [one.strip().rstrip("/") for one in text.split(",")]
    return [one for one in found if one] or [text.strip()]


class _Turns:
    """Which address is tried next: first the one that answered last."""

    def __init__(self, addresses: Sequence[str], clock: Callable[[], float]) -> None:
        self._urls = [httpx.URL(one) for one in addresses]
        self._clock = clock
        self._answered: dict[httpx.URL, float] = {}

    def unsure(self, url: httpx.URL) -> bool:
        """Whether it should be asked first whether it answers."""
        at = self._answered.get(url)
        return at is None or self._clock() - at > KNOWN_FOR

    def __iter__(self) -> Iterator[httpx.URL]:
        return iter(list(self._urls))

    def answered(self, url: httpx.URL) -> None:
        self._answered[url] = self._clock()
        self._urls.remove(url)
        self._urls.insert(0, url)

    def failed(self, url: httpx.URL) -> None:
        self._answered.pop(url, None)


def _sent_to(request: httpx.Request, url: httpx.URL) -> httpx.Request:
    request.url = request.url.copy_with(scheme=url.scheme, host=url.host, port=url.port)
    request.headers["host"] = url.netloc.decode("ascii")
    return request


def _probe(url: httpx.URL) -> httpx.Request:
    within = dict.fromkeys(("connect", "read", "write", "pool"), PROBE_WITHIN)
    return httpx.Request("GET", url.copy_with(path="/healthz"), extensions={"timeout": within})


class AnyOf(httpx.BaseTransport):
    """Sends a request to the first address that takes it."""

    def __init__(
        self,
        addresses: Sequence[str],
        inner: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._turns = _Turns(addresses, clock)
        self._inner = inner or httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        failure: Exception | None = None
        for url in self._turns:
            try:
                if self._turns.unsure(url):
                    (self._inner.handle_request(_probe(url))).close()
            except httpx.TransportError as error:
                failure = error
                continue
            try:
                answer = self._inner.handle_request(_sent_to(request, url))
            except REFUSED as error:
                self._turns.failed(url)
                failure = error
                continue
            except httpx.TransportError:
                self._turns.failed(url)
                raise
            self._turns.answered(url)
            return answer
        assert failure is not None
        raise failure

    def close(self) -> None:
        self._inner.close()


class AsyncAnyOf(httpx.AsyncBaseTransport):
    """`AnyOf` for asyncio."""

    def __init__(
        self,
        addresses: Sequence[str],
        inner: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._turns = _Turns(addresses, clock)
        self._inner = inner or httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        failure: Exception | None = None
        for url in self._turns:
            try:
                if self._turns.unsure(url):
                    await (await self._inner.handle_async_request(_probe(url))).aclose()
            except httpx.TransportError as error:
                failure = error
                continue
            try:
                answer = await self._inner.handle_async_request(_sent_to(request, url))
            except REFUSED as error:
                self._turns.failed(url)
                failure = error
                continue
            except httpx.TransportError:
                self._turns.failed(url)
                raise
            self._turns.answered(url)
            return answer
        assert failure is not None
        raise failure

    async def aclose(self) -> None:
        await self._inner.aclose()
