"""The coordinator's own log, as the coordinator uses it: its engine is asked, its file is read."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import httpx

from fleet.coordinator import history_log
from fleet.coordinator.history import NotRecorded
from fleet.coordinator.history_log import Wanted
from fleet.history_views import OperationView
from node.engine import schema
from node.engine.errors import EngineError
from node.order import ENDED, NodeStatus

PATIENCE = 5.0
"""Seconds for which somebody who reads waits for a log that is being brought up."""
WAIT = 20.0
"""Seconds for the engine to carry out what it was asked, and to prove it in the bucket."""


class OwnLog:
    """`Records` in the log of a node: written by executions of its engine, durably."""

    def __init__(self, node: Callable[[], NodeStatus | None]) -> None:
        """
        Args:
            node: the status of the node that has the log, None while there is none.
        """
        self._node = node
        self._client: tuple[str, httpx.AsyncClient] | None = None

    async def append(self, operations: Sequence[OperationView]) -> None:
        """Have the operations written, and proven. Raises `NotRecorded`."""
        ids = "\n".join(one.id for one in operations)
        told = [one.model_dump(mode="json", exclude={"n"}) for one in operations]
        # The same operations, sent again, are the same execution.
        name = f"record-{hashlib.sha256(ids.encode()).hexdigest()[:32]}"
        await self.run("record", name, {"operations": told})

    async def start(self, workflow: str, id: str, input: dict[str, Any]) -> None:
        """Start a workflow, durably, if it is not there already; wait for a log that is being
        brought up. Raises `NotRecorded`: it may have been started."""
        await self._soon()
        body = {"workflow": workflow, "id": id, "input": input, "ack": "durable"}
        await self._ask("POST", "executions", body)

    async def run(self, workflow: str, id: str, input: dict[str, Any]) -> Any:
        """Run a workflow to its end, once, however often it is asked for; its result.

        Raises:
            NotRecorded: it is not known to have ended well.
        """
        body = {"workflow": workflow, "id": id, "input": input, "ack": "durable"}
        await self._ask("POST", "executions", body)
        outcome = await self._ask("GET", f"executions/{id}/result?wait={WAIT:.0f}")
        if outcome.get("status") != "completed":
            raise NotRecorded(f"{id} is {outcome.get('status')}: {outcome.get('error')}")
        return outcome.get("result")

    async def read(self, wanted: Wanted) -> list[OperationView]:
        """Raises `NotRecorded`."""
        path = Path((await self._soon()).database)

        def look() -> list[OperationView]:
            with closing(schema.connect(path, read_only=True)) as db:
                return history_log.read(db, wanted)

        try:
            return await asyncio.to_thread(look)
        except (apsw.Error, EngineError, OSError) as error:
            raise NotRecorded(f"the coordinator's log cannot be read: {error}") from error

    async def _soon(self) -> NodeStatus:
        """The node; waited for, since a log is soon brought up. Raises `NotRecorded`."""
        loop = asyncio.get_running_loop()
        until = loop.time() + PATIENCE
        while loop.time() < until:
            with contextlib.suppress(NotRecorded):
                return self._serving()
            await asyncio.sleep(0.05)
        return self._serving()

    def _serving(self) -> NodeStatus:
        node = self._node()
        if node is None or node.state in ENDED or not node.serving:
            raise NotRecorded("the coordinator's own log is being brought up")
        return node

    async def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        socket = self._serving().api_socket
        if self._client is None or self._client[0] != socket:
            await self.close()
            transport = httpx.AsyncHTTPTransport(uds=socket)
            self._client = (socket, httpx.AsyncClient(transport=transport, timeout=WAIT + 10.0))
        try:
            answer = await self._client[1].request(method, f"http://node/{path}", json=body)
            answer.raise_for_status()
            found: dict[str, Any] = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise NotRecorded(f"the coordinator's engine did not do it: {error}") from error
        return found

    async def close(self) -> None:
        if self._client is not None:
            await self._client[1].aclose()
            self._client = None
