"""One engine over HTTP: a tenant's through the fleet's gateway, or by its own address."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict

from fleet.client import Call, Client, FleetNotFound, FleetUnavailable

#: Seconds for which a request is repeated while the engine moves or cannot prove anything.
PATIENCE: Final = 60.0
Answer = dict[str, Any]
Ack = Literal["durable", "async"]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="allow")


class EngineLink(AbstractContextManager["EngineLink"]):
    """Requests below `prefix`. Every method raises FleetError.

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

    def _get(
        self, path: str, query: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> Answer:
        given = {key: value for key, value in (query or {}).items() if value is not None}
        return self._send(Call("GET", self._prefix + path, _Answer, query=given, timeout=timeout))

    def _post(self, path: str, body: Mapping[str, Any], *, method: str = "POST") -> Answer:
        return self._send(Call(method, self._prefix + path, _Answer, {**body, "ack": self._ack}))

    def _send(self, call: Call[_Answer]) -> Answer:
        until = self._clock() + PATIENCE
        repeated = False
        while True:
            try:
                return self._client.send(call).model_dump()
            except FleetUnavailable as error:
                if self._clock() + error.retry_after > until:
                    raise
                self._waiting(error.message)
                self._sleep(error.retry_after)
                repeated = True
            except FleetNotFound:
                # It was the one before that deleted it.
                if call.method == "DELETE" and repeated:
                    return {}
                raise
