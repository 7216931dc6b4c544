"""What the client sends, what it sends again, and what it makes of an answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from node import Queue, workflow
from node.client import (
    Client,
    Conflict,
    Denied,
    ExecutionCancelled,
    ExecutionDiverged,
    ExecutionFailed,
    ExecutionTerminated,
    Invalid,
    LitefleetError,
    NotFound,
    NotOver,
    Unavailable,
    UnexpectedAnswer,
    Unreachable,
    UpdateRefused,
)
from node.client.sending import Address
from node.engine.errors import PayloadError

STANDING = {"durable": True, "bookmark": "1:2"}
STARTED = {"id": "a", "workflow": "greet", "status": "running", **STANDING}
BUSY = {"error": {"type": "unproven", "message": "not yet", "hint": "again"}, "outcome": "unknown"}


@workflow
async def greet(name: str, times: int = 1) -> dict[str, int]:
    return {name: times}


class Engine:
    """Answers as it is told, one after the other, and keeps what it is asked."""

    def __init__(self, *answers: tuple[int, Any] | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []
        self.waited: list[str] = []

    def client(self, **more: Any) -> Client:
        def answer(request: httpx.Request) -> httpx.Response:
            self.asked.append(request)
            one = self.answers.pop(0)
            if isinstance(one, Exception):
                raise one
            return httpx.Response(one[0], json=one[1], headers={"retry-after": "0.001"})

        return Client(
            "http://host/acme",
            transport=httpx.MockTransport(answer),
            on_wait=self.waited.append,
            **more,
        )

    def bodies(self) -> list[Any]:
        return [json.loads(request.content) for request in self.asked]


def test_a_start_is_sent_again_with_the_id_that_it_had() -> None:
    engine = Engine((503, BUSY), httpx.ReadError("cut"), (201, STARTED))
    handle = engine.client().start(greet, "Ada")
    assert (handle.id, handle.started and handle.started.durable) == ("a", True)
    bodies = engine.bodies()
    assert bodies[0] == bodies[1] == bodies[2]
    assert len(bodies[0]["id"]) == 32
    assert bodies[0] == {
        "workflow": "greet",
        "id": bodies[0]["id"],
        "input": {"name": "Ada"},
        "ack": "durable",
    }
    assert [request.url.path for request in engine.asked] == ["/acme/executions"] * 3
    assert engine.waited[0] == "not yet"


def test_what_a_start_may_say() -> None:
    engine = Engine(*[(201, STARTED)] * 3)
    client = engine.client(token="secret", ack="async")
    queue = Queue("line")
    client.start(greet.with_id("g").on_queue(queue, priority=2).with_labels(of="x"), name="Ada")
    client.using(id="h", labels={"customer": "acme"}, queue=queue).start("greet", {"name": "Bo"})
    client.start("greet")
    assert engine.asked[0].headers["authorization"] == "Bearer secret"
    one, two, three = engine.bodies()
    assert (one["id"], one["queue"], one["priority"], one["labels"]) == (
        "g",
        "line",
        2,
        {"of": "x"},
    )
    assert (two["id"], two["labels"], two["queue"]) == ("h", {"customer": "acme"}, "line")
    assert (three["input"], one["ack"]) == ({}, "async")


def test_arguments_that_do_not_fit_are_not_sent() -> None:
    engine = Engine()
    with pytest.raises(PayloadError):
        engine.client().start(greet, name=7)  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        engine.client().start(greet, who="Ada")  # type: ignore[call-overload]
    assert engine.asked == []


@pytest.mark.parametrize(
    ("do", "again"),
    [
        (lambda handle: handle.show(), True),
        (lambda handle: handle.cancel(), True),
        (lambda handle: handle.signal("s", 1), True),
        (lambda handle: handle.update("u"), True),
        (lambda handle: handle.query("q"), True),
        (lambda handle: handle.retry(), False),
    ],
)
def test_only_what_does_no_harm_is_sent_again(do: Callable[[Any], Any], again: bool) -> None:
    engine = Engine((503, BUSY), (404, {"error": {"type": "x", "message": "m", "hint": "h"}}))
    with pytest.raises(NotFound if again else Unavailable):
        do(engine.client().handle("a"))
    assert len(engine.asked) == (2 if again else 1)
    if again and engine.asked[0].content:
        assert engine.bodies()[0] == engine.bodies()[1]


def test_what_was_never_sent_may_always_be_sent_again() -> None:
    engine = Engine(httpx.ConnectError("refused"), (404, {}))
    with pytest.raises(NotFound):
        engine.client().handle("a").retry()
    assert len(engine.asked) == 2


def test_patience_comes_to_an_end() -> None:
    engine = Engine(*[(503, BUSY)] * 1000)
    with pytest.raises(Unavailable, match="not yet") as raised:
        engine.client(patience=0.02).status()
    assert raised.value.retry_after == 0.001
    assert 1 < len(engine.asked) < 1000
    engine = Engine(*[httpx.ConnectError("refused")] * 1000)
    with pytest.raises(Unreachable, match="http://host/acme"):
        engine.client(patience=0).status()


@pytest.mark.parametrize(
    ("status", "type", "kind"),
    [
        (401, "unauthorized", Denied),
        (403, "forbidden", Denied),
        (404, "unknown_execution", NotFound),
        (409, "execution_conflict", Conflict),
        (422, "payload_error", Invalid),
        (422, "update_refused", UpdateRefused),
        (500, "internal", LitefleetError),
    ],
)
def test_errors_have_types_and_hints(status: int, type: str, kind: type[Exception]) -> None:
    error = {"error": {"type": type, "message": "it is so", "hint": "do this"}}
    with pytest.raises(kind) as raised:
        Engine((status, error)).client().status()
    found = raised.value
    assert isinstance(found, LitefleetError)
    assert (found.type, found.message, found.hint, found.status) == (
        type,
        "it is so",
        "do this",
        status,
    )


def test_an_answer_of_something_else_is_told_as_that() -> None:
    with pytest.raises(UnexpectedAnswer, match="fields do not fit"):
        Engine((200, {"hello": "world"})).client().status()
    with pytest.raises(LitefleetError, match="status 418"):
        Engine((418, ["no"])).client().status()


def outcome(status: str, **more: Any) -> tuple[int, Any]:
    return 200, {"id": "a", "status": status, **more, **STANDING}


def test_a_result_is_waited_for_and_read_by_its_type() -> None:
    engine = Engine(outcome("running"), outcome("running"), outcome("completed", result={"x": 1}))
    assert engine.client().handle("a", greet).result() == {"x": 1}
    assert [float(one.url.params["wait"]) for one in engine.asked] == [20.0] * 3
    wrong = Engine(outcome("completed", result={"x": "y"})).client().handle("a", greet)
    with pytest.raises(PayloadError):
        wrong.result()
    raw = Engine(outcome("completed", result={"x": "y"})).client().handle("a")
    assert raw.result() == {"x": "y"}
    late = {"id": "a", "status": "completed", "result": 1, "durable": False, "bookmark": "1:2"}
    assert Engine((200, late)).client().handle("a").outcome().durable is False


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("failed", ExecutionFailed),
        ("cancelled", ExecutionCancelled),
        ("terminated", ExecutionTerminated),
        ("diverged", ExecutionDiverged),
    ],
)
def test_an_end_without_a_result_raises(status: str, kind: type[Exception]) -> None:
    error = {"type": "ValueError", "message": "too bad", "attempts": 3}
    with pytest.raises(kind, match="too bad") as raised:
        Engine(outcome(status, error=error)).client().handle("a").result()
    assert isinstance(raised.value, ExecutionFailed)
    assert raised.value.type == "ValueError"
    assert raised.value.failure.model_dump()["attempts"] == 3


def test_waiting_ends_when_it_should() -> None:
    engine = Engine(outcome("running"))
    with pytest.raises(NotOver, match="'a' is running after 0 s") as raised:
        engine.client().handle("a").result(wait=0)
    assert isinstance(raised.value, TimeoutError)


def test_lists_are_read_page_by_page_as_they_are_wanted() -> None:
    item = {"id": "a", "workflow": "greet", "status": "failed", "started_at": 1.0, **STANDING}
    pages = [(200, {"items": [item, item], "next": next}) for next in ("o2", "o4", None)]
    engine = Engine(*pages)
    found = engine.client().executions(
        status=["failed", "cancelled"], workflow=greet, labels={"a": "b=c"}, newest=True
    )
    assert engine.asked == []
    assert next(iter(found)).id == "a"
    assert len(engine.asked) == 1
    assert len(list(found)) == 5
    first, *_, last = engine.asked
    assert first.url.params.multi_items() == [
        ("status", "failed"),
        ("status", "cancelled"),
        ("workflow", "greet"),
        ("label", "a=b=c"),
        ("order", "newest"),
        ("limit", "500"),
    ]
    assert last.url.params["after"] == "o4"
    engine = Engine(*pages)
    assert len(list(engine.client().executions(limit=3))) == 3
    assert len(engine.asked) == 2


def test_a_signal_in_bulk_has_one_key_for_all_batches() -> None:
    done = {"items": [], **STANDING}
    engine = Engine((200, {**done, "next": "o9"}), (503, BUSY), (200, {**done, "next": None}))
    assert list(engine.client().bulk("signal", signal="stop", status="running")) == []
    one, two, three = engine.bodies()
    assert one["key"] == two["key"] == three["key"]
    assert (one["filter"], three["after"]) == ({"status": ["running"]}, "o9")


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://127.0.0.1:8787/", Address("http://127.0.0.1:8787")),
        ("https://fleet.example/acme", Address("https://fleet.example/acme")),
        ("unix:///run/a%20b/engine.sock", Address("http://engine", "/run/a b/engine.sock")),
    ],
)
def test_addresses(url: str, found: Address) -> None:
    assert Address.of(url) == found


@pytest.mark.parametrize("url", ["", "engine.sock", "unix:", "ftp://host", "http://"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(LitefleetError, match="no address"):
        Client(url)
