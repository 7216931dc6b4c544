"""Several addresses of one fleet: its coordinators, any of which answers for all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import httpx

REFUSED = (httpx.ConnectError, httpx.ConnectTimeout)
"""Nothing of the request has been sent, so that it may be sent elsewhere."""


def addresses_of(text: str) -> list[str]:
    """The addresses in a list with commas between them, at least one."""
    found = [one.strip().rstrip("/") for one in text.split(",")]
    return [one for one in found if one] or [text.strip()]


class _Turns:
    """Which address is tried next: first the one that answered last."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._urls = [httpx.URL(one) for one in addresses]

    def __iter__(self) -> Iterator[httpx.URL]:
        return iter(list(self._urls))

    def answered(self, url: httpx.URL) -> None:
        self._urls.remove(url)
        self._urls.insert(0, url)


def _sent_to(request: httpx.Request, url: httpx.URL) -> httpx.Request:
    request.url = request.url.copy_with(scheme=url.scheme, host=url.host, port=url.port)
    request.headers["host"] = url.netloc.decode("ascii")
    return request


class AnyOf(httpx.BaseTransport):
    """Sends a request to the first address that takes it."""

    def __init__(self, addresses: Sequence[str], inner: httpx.BaseTransport | None = None) -> None:
        self._turns = _Turns(addresses)
        self._inner = inner or httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        failure: Exception | None = None
        for url in self._turns:
            try:
                answer = self._inner.handle_request(_sent_to(request, url))
            except REFUSED as error:
                failure = error
                continue
            self._turns.answered(url)
            return answer
        assert failure is not None
        raise failure

    def close(self) -> None:
        self._inner.close()


class AsyncAnyOf(httpx.AsyncBaseTransport):
    """`AnyOf` for asyncio."""

    def __init__(
        self, addresses: Sequence[str], inner: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._turns = _Turns(addresses)
        self._inner = inner or httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        failure: Exception | None = None
        for url in self._turns:
            try:
                answer = await self._inner.handle_async_request(_sent_to(request, url))
            except REFUSED as error:
                failure = error
                continue
            self._turns.answered(url)
            return answer
        assert failure is not None
        raise failure

    async def aclose(self) -> None:
        await self._inner.aclose()
