"""The typed client: what it makes of answers that are not what one hopes for."""

from __future__ import annotations

import httpx
import pytest

from fleet.client import (
    Client,
    FleetConflict,
    FleetDenied,
    FleetError,
    FleetNotFound,
    FleetUnavailable,
    FleetUnreachable,
)


def _client(response: httpx.Response) -> Client:
    return Client("http://fleet/", "token", transport=httpx.MockTransport(lambda _: response))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, FleetDenied),
        (403, FleetDenied),
        (404, FleetNotFound),
        (409, FleetConflict),
        (422, FleetError),
        (503, FleetUnavailable),
        (500, FleetError),
    ],
)
def test_an_error_keeps_its_words_and_gets_its_kind(status: int, kind: type[FleetError]) -> None:
    body = {"error": {"type": "bad", "message": "This is wrong.", "hint": "Do that."}}
    with _client(httpx.Response(status, json=body)) as client, pytest.raises(kind) as caught:
        client.tenant("acme")
    assert caught.value.message == "This is wrong."
    assert caught.value.hint == "Do that."
    assert caught.value.status == status


def test_an_error_without_words_still_says_what_was_asked() -> None:
    with (
        _client(httpx.Response(502, text="<html>")) as client,
        pytest.raises(FleetError, match="GET /api/tenants/acme was answered with status 502"),
    ):
        client.tenant("acme")


@pytest.mark.parametrize(("header", "seconds"), [("2.5", 2.5), ("soon", 1.0), (None, 1.0)])
def test_retry_after(header: str | None, seconds: float) -> None:
    headers = {} if header is None else {"retry-after": header}
    with (
        _client(httpx.Response(503, headers=headers)) as client,
        pytest.raises(FleetUnavailable) as caught,
    ):
        client.result("acme", "doc")
    assert caught.value.retry_after == seconds


def test_an_answer_from_something_else_is_not_taken_for_a_fleet() -> None:
    with (
        _client(httpx.Response(200, json={"hello": "world"})) as client,
        pytest.raises(FleetError, match="not what this version expects"),
    ):
        client.tenants()


def test_nobody_there() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with Client("http://fleet", "token", transport=httpx.MockTransport(refuse)) as client:
        with pytest.raises(FleetUnreachable, match="http://fleet"):
            client.hosts()
        assert not client.healthy()


def test_all_pages_are_read_and_names_are_quoted() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        assert request.headers["authorization"] == "Bearer token"
        last = "after" in request.url.params
        item = {"name": "b" if last else "a", "state": "live"}
        return httpx.Response(200, json={"items": [item], "next": None if last else "a"})

    with Client("http://fleet", "token", transport=httpx.MockTransport(answer)) as client:
        assert [host.name for host in client.hosts()] == ["a", "b"]
        with pytest.raises(FleetError):
            client.tenant("a/../b")
    assert asked[-1] == "http://fleet/api/tenants/a%2F..%2Fb"
