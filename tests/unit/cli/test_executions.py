"""The requests that `litefleet exec` sends, and what it does when an engine cannot answer yet."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from fleet.client import Client, FleetNotFound, FleetUnavailable
from fleet.engine_link import PATIENCE
from fleet.executions import Executions


class Engine:
    """Answers 503 so many times, then what is asked."""

    def __init__(self, busy: int = 0) -> None:
        self.busy = busy
        self.requests: list[httpx.Request] = []
        self.now = 0.0
        self.said: list[str] = []

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if len(self.requests) <= self.busy:
            error = {"type": "moving", "message": "acme moves"}
            return httpx.Response(503, json={"error": error}, headers={"retry-after": "2"})
        if request.method == "GET" and request.url.path.endswith("/executions"):
            after = int(request.url.params.get("after", 0))
            items = [{"id": str(n)} for n in range(after, min(after + 3, 7))]
            following = str(after + 3) if after + 3 < 7 else None
            return httpx.Response(200, json={"items": items, "next": following})
        if request.method == "DELETE":
            error = {"type": "unknown_execution", "message": "no execution 'a'"}
            return httpx.Response(404, json={"error": error})
        return httpx.Response(200, json={"id": "a", "status": "running"})

    def executions(self, prefix: str = "/acme") -> Executions:
        client = Client("http://fleet", "token", transport=httpx.MockTransport(self.handle))

        def sleep(seconds: float) -> None:
            self.now += seconds

        return Executions(
            client,
            prefix,
            ack="durable",
            waiting=self.said.append,
            clock=lambda: self.now,
            sleep=sleep,
        )

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(request.content) for request in self.requests]


def test_a_start_that_is_repeated_is_the_same_start() -> None:
    engine = Engine(busy=3)
    engine.executions().start("greet", {"name": "Ada"}, None, "existing")
    assert [request.url.path for request in engine.requests] == ["/acme/executions"] * 4
    assert len({json.dumps(body) for body in engine.bodies}) == 1
    assert engine.bodies[0]["ack"] == "durable"
    assert engine.bodies[0]["id"]
    assert engine.said == ["acme moves"] * 3
    assert engine.now == 6.0


def test_a_message_without_a_key_is_given_one() -> None:
    engine = Engine()
    executions = engine.executions()
    executions.signal("a b", "go/on", 1, None)
    executions.update("a", "add", {}, "mine")
    assert engine.bodies[0]["key"]
    assert engine.bodies[1]["key"] == "mine"
    assert engine.requests[0].url.raw_path == b"/acme/executions/a%20b/signals/go%2Fon"


def test_a_deletion_that_is_repeated_may_find_that_it_was_done() -> None:
    engine = Engine(busy=1)
    answer = engine.executions().delete("a")
    assert (answer["deleted"], answer["durable"]) == (True, False)
    # One that is told so at once has nothing to do with it.
    with pytest.raises(FleetNotFound):
        Engine().executions().delete("a")


def test_it_is_not_asked_for_ever() -> None:
    engine = Engine(busy=10_000)
    with pytest.raises(FleetUnavailable):
        engine.executions().show("a")
    assert engine.now <= PATIENCE


def test_pages_are_followed_up_to_the_limit() -> None:
    engine = Engine()
    assert [one["id"] for one in engine.executions().list()] == list("0123456")
    assert [one["id"] for one in engine.executions().list(limit=4)] == list("0123")
    assert len(list(engine.executions().list(limit=3))) == 3
