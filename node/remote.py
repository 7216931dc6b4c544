"""The agent's side of a node: starting it, watching it, extending its life."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

from backup.copies import Copy
from backup.sealing import Key
from backup.settings import REVEAL
from node.checks import CheckStatus
from node.order import NodeOrder, NodeStatus
from node.wire import Client, WireError

CONNECT_TIMEOUT = 10.0
"""Seconds for a fresh supervisor to listen."""


class RemoteNode:
    """A supervisor process as seen from outside it."""

    def __init__(self, client: Client):
        self._client = client

    @classmethod
    async def connect(cls, sockets: Path, timeout: float = CONNECT_TIMEOUT) -> RemoteNode:
        """Connect to the supervisor that listens, or is about to listen, in ``sockets``.

        Raises:
            WireError: nobody listens there within ``timeout`` seconds.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        while True:
            try:
                return cls(await Client.connect(sockets / "control.sock"))
            except WireError:
                if loop.time() >= until:
                    raise
            await asyncio.sleep(0.005)

    async def start(self, order: NodeOrder, folder: Path) -> NodeStatus:
        """Give the node its one order. Its secrets travel over the socket, never through a file."""
        body = order.model_dump(mode="json", context=REVEAL)
        return NodeStatus.model_validate(
            await self._client.call("start", order=body, folder=str(folder))
        )

    async def status(self, after: int = -1, wait: float = 0.0) -> NodeStatus:
        """The status once its version is above ``after``, or after ``wait`` seconds."""
        return NodeStatus.model_validate(await self._client.call("status", after=after, wait=wait))

    async def chain_at(self, sequence: int) -> str:
        """The live log's hash chain after an event, in hex; "" where no commit ends there.

        Raises:
            WireError: the node is gone, or its log cannot be read.
        """
        answer = await self._client.call("chain", sequence=sequence)
        return str(answer["chain"])

    async def copy(self, key: Key | None = None) -> Copy:
        """Have an independent copy of the live log brought to the bucket, sealed with ``key``.

        Raises:
            WireError: the node is gone, or could not do it.
        """
        body = key.model_dump(context=REVEAL) if key is not None else None
        return Copy.model_validate(await self._client.call("copy", key=body))

    async def export(self, into: Path) -> Copy:
        """Have the live log written to a new file, whole and checked.

        Raises:
            WireError: the node is gone, or could not do it.
        """
        return Copy.model_validate(await self._client.call("export", into=str(into)))

    async def extend(self, deadline: float) -> None:
        await self._client.call("extend", deadline=deadline)

    async def check(self, app: str, kept: Sequence[str]) -> CheckStatus:
        """Begin a check of other code."""
        answer = await self._client.call("check", app=app, kept=list(kept))
        return CheckStatus.model_validate(answer)

    async def look_at_check(self, wait: float) -> CheckStatus | None:
        """The newest check, once it is over or after ``wait`` seconds; None when there is none."""
        answer = await self._client.call("check_status", wait=wait)
        return CheckStatus.model_validate(answer["check"]) if answer["check"] else None

    async def upgrade(self, app: str, kept: Sequence[str], release: int) -> None:
        """Restart the engine in place, with other code."""
        await self._client.call("upgrade", app=app, kept=list(kept), release=release)

    async def drain(self) -> None:
        await self._client.call("drain")

    async def fence(self) -> None:
        await self._client.call("fence")

    async def dismiss(self) -> None:
        """Tell an ended node that its end was seen, and hang up."""
        with contextlib.suppress(WireError):
            await self._client.call("bye")
        await self._client.close()
