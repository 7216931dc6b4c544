"""Several coordinators' addresses: a request goes to the first one that takes it, once."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from fleet.addresses import addresses_of
from fleet.client import AsyncClient, Client, FleetUnreachable

BOTH = "http://one:1, http://two:2/"


class Hosts:
    """Answers at some addresses and at none of the others."""

    def __init__(self, *up: str) -> None:
        self.up = set(up)
        self.asked: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        if request.url.path != "/healthz":
            self.asked.append(host)
        if host not in self.up:
            raise httpx.ConnectError("no", request=request)
        assert request.headers["host"] == f"{host}:{request.url.port}"
        return httpx.Response(200, json={"items": []})


def test_the_addresses_in_a_list() -> None:
    assert addresses_of(BOTH) == ["http://one:1", "http://two:2"]
    assert addresses_of("http://one:1/") == ["http://one:1"]


def test_the_one_that_answered_last_is_asked_first() -> None:
    hosts = Hosts("two")
    with Client(BOTH, "token", httpx.MockTransport(hosts)) as client:
        client.hosts()
        client.hosts()
        assert hosts.asked == ["two", "two"]
        hosts.up = {"one"}
        client.hosts()
        assert hosts.asked[2:] == ["two", "one"]
        hosts.up = set()
        with pytest.raises(FleetUnreachable):
            client.hosts()


def test_a_request_that_was_sent_is_not_sent_again() -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/healthz":
            return httpx.Response(200)
        asked.append(request.url.host)
        raise httpx.ReadError("reset", request=request)

    asked: list[str] = []
    client = Client(BOTH, "token", httpx.MockTransport(broken))
    with client, pytest.raises(FleetUnreachable):
        client.hosts()
    assert asked == ["one"]


def test_one_that_takes_requests_and_does_not_answer_is_passed_over() -> None:
    def frozen(request: httpx.Request) -> httpx.Response:
        if request.url.host == "one":
            assert request.url.path == "/healthz"
            raise httpx.ReadTimeout("no answer", request=request)
        return httpx.Response(200, json={"items": []})

    with Client(BOTH, "token", httpx.MockTransport(frozen)) as client:
        assert client.hosts() == []


def test_with_asyncio() -> None:
    async def whole() -> None:
        hosts = Hosts("two")
        async with AsyncClient(BOTH, "token", httpx.MockTransport(hosts)) as client:
            await client.hosts()
            assert await client.coordinators() == []
        assert hosts.asked == ["two", "two"]

    asyncio.run(whole())
