"""One engine's executions over HTTP: a tenant's through the fleet's gateway, or by an address."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, Literal, Self
from urllib.parse import quote
from uuid import uuid4

from pydantic import BaseModel, ConfigDict

from fleet.client import Call, Client, FleetNotFound, FleetUnavailable

#: Seconds for which a request is repeated while the engine moves or cannot prove anything.
PATIENCE: Final = 60.0
#: Seconds for which the engine may hold a request for a result at once.
HOLD: Final = 10.0
#: How an execution can stand once nothing more will happen to it by itself.
OVER: Final = frozenset({"completed", "failed", "cancelled", "terminated", "diverged"})
#: Seconds that one request to prune takes, or a little longer.
PIECE: Final = 10.0
Answer = dict[str, Any]
Ack = Literal["durable", "async"]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="allow")


class Executions(AbstractContextManager["Executions"]):
    """What can be done with the executions below `prefix`. Every method raises FleetError.

    Every request can be repeated without harm: starts are given an id, messages a key. So one
    that is answered with 503 is sent again, up to PATIENCE seconds; `waiting` is told why.
    """

    def __init__(
        self,
        client: Client,
        prefix: str,
        *,
        ack: Ack,
        waiting: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._ack: Ack = ack
        self._waiting = waiting
        self._clock = clock
        self._sleep = sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def start(self, workflow: str, input: Mapping[str, Any], id: str | None, reuse: str) -> Answer:
        """Start an execution, or get the one that has this id, workflow and input."""
        body = {
            "workflow": workflow,
            "input": dict(input),
            "id": id or uuid4().hex[:16],
            "reuse": reuse,
        }
        return self._post("/executions", body)

    def list(
        self, status: str | None = None, workflow: str | None = None, limit: int | None = None
    ) -> Iterator[Answer]:
        """Executions in the order of their start; all of them without a `limit`."""
        query = {"status": status, "workflow": workflow}
        for number, item in enumerate(self._pages("/executions", query, limit or 500)):
            if number == limit:
                return
            yield item

    def show(self, id: str) -> Answer:
        return self._get(_one(id))

    def events(self, id: str) -> Iterator[Answer]:
        """Its part of the log."""
        return self._pages(_one(id) + "/events", {}, 1000)

    def result(self, id: str, wait: float = 0.0) -> Answer:
        """How it stands once it is over, or after `wait` seconds."""
        until = self._clock() + wait
        while True:
            hold = max(0.0, min(HOLD, until - self._clock()))
            answer = self._get(_one(id) + "/result", {"wait": hold, "ack": self._ack}, hold + 30)
            if answer["status"] in OVER or self._clock() >= until:
                return answer

    def waits(self, id: str) -> Answer:
        """What it waits for."""
        return self._get(_one(id) + "/waiting")

    def archive(self, id: str) -> Answer:
        """The execution as a file that `replay` takes."""
        return self._get(_one(id) + "/archive")

    def signal(self, id: str, name: str, value: Any, key: str | None) -> Answer:
        body = {"value": value, "key": key or uuid4().hex}
        return self._post(f"{_one(id)}/signals/{quote(name, safe='')}", body)

    def update(self, id: str, name: str, input: Mapping[str, Any], key: str | None) -> Answer:
        body = {"input": dict(input), "key": key or uuid4().hex}
        return self._post(f"{_one(id)}/updates/{quote(name, safe='')}", body)

    def query(self, id: str, name: str, input: Mapping[str, Any]) -> Answer:
        return self._post(f"{_one(id)}/queries/{quote(name, safe='')}", {"input": dict(input)})

    def control(self, id: str, action: str, reason: str | None = None) -> Answer:
        """`cancel`, `terminate`, `pause`, `resume` or `retry` it."""
        return self._post(f"{_one(id)}/{action}", {} if reason is None else {"reason": reason})

    def delete(self, id: str) -> Answer:
        """Remove a closed one from the log; `events` is None where that was found to be done."""
        call = Call("DELETE", self._prefix + _one(id), _Answer, query={"ack": self._ack})
        return self._send(call, done={"id": id, "deleted": True, "events": None, "durable": False})

    def hold(self, id: str, reason: str) -> Answer:
        """Let nothing remove it."""
        return self._post(_one(id) + "/hold", {"reason": reason})

    def release(self, id: str) -> Answer:
        """Let it be removed again."""
        return self._post(_one(id) + "/release", {})

    def retention(self) -> Answer:
        """What the log keeps, and what was removed."""
        return self._get("/retention")

    def prune(self) -> Iterator[Answer]:
        """Remove all that is due, a piece at a time; what each piece has removed."""
        while True:
            done = self._send(
                Call(
                    "POST",
                    f"{self._prefix}/retention/prune",
                    _Answer,
                    {"seconds": PIECE, "ack": self._ack},
                    timeout=PIECE + 60,
                )
            )
            yield done
            if done["trouble"] or not any(done["left"].values()) or not done["batches"]:
                return

    def prunable(self) -> Answer:
        """What `prune` would remove."""
        return self._send(
            Call("POST", f"{self._prefix}/retention/prune", _Answer, {"dry_run": True})
        )

    def _pages(self, path: str, query: Mapping[str, Any], size: int) -> Iterator[Answer]:
        after: str | None = None
        while True:
            page = self._get(path, {**query, "limit": min(size, 500), "after": after})
            yield from page["items"]
            after = page["next"]
            if after is None:
                return

    def _get(
        self, path: str, query: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> Answer:
        given = {key: value for key, value in (query or {}).items() if value is not None}
        return self._send(Call("GET", self._prefix + path, _Answer, query=given, timeout=timeout))

    def _post(self, path: str, body: Mapping[str, Any]) -> Answer:
        return self._send(Call("POST", self._prefix + path, _Answer, {**body, "ack": self._ack}))

    def _send(self, call: Call[_Answer], done: Answer | None = None) -> Answer:
        """`done` is the answer where a request that is repeated finds nothing to do any more."""
        until = self._clock() + PATIENCE
        repeated = False
        while True:
            try:
                return self._client.send(call).model_dump()
            except FleetNotFound:
                if done is None or not repeated:
                    raise
                return done
            except FleetUnavailable as error:
                repeated = True
                if self._clock() + error.retry_after > until:
                    raise
                self._waiting(error.message)
                self._sleep(error.retry_after)


def _one(id: str) -> str:
    return f"/executions/{quote(id, safe='')}"
