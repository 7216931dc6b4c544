"""The nodes of one host: started on order, extended with the lease, ended with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from backup.copies import Copy
from backup.guards import GuardSettings
from backup.ownership import Durability, Origin
from backup.settings import Credentials, StoreSettings
from node.checks import CheckStatus
from node.nursery import Nursery, NurseryLost
from node.order import ENDED, NodeOrder, NodeState, NodeStatus, Tail
from node.remote import RemoteNode
from node.wire import WireError

STATUS_EVERY = 0.5
"""Seconds between two looks at a node's lag; changes of its state are told of at once."""


class StartRequest(BaseModel):
    """The coordinator's order to take a tenant over; see `node.order.NodeOrder`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    app: str
    durability: Durability
    env: dict[str, str] = Field(default_factory=dict)
    expected: str | None
    authority_ended: bool
    floor_txid: int = 0
    sidecar: Credentials
    kept: tuple[str, ...] = ()
    release: int = 0
    origin: Origin | None = None


class CodeRequest(BaseModel):
    """Other code for a tenant that runs here: an application and older versions beside it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    app: str
    kept: tuple[str, ...] = ()
    release: int = 0


class NotHere(Exception):
    """The tenant has no node on this host."""


class Chain(BaseModel):
    """The hash chain of a live log after an event, in hex: ``value`` is empty where no commit ends
    there."""

    epoch: int
    value: str


class AlreadyHere(Exception):
    """The tenant has a node on this host that has not ended."""


class NoAuthority(Exception):
    """This host holds no lease at present and starts nothing."""


@dataclass(slots=True)
class Node:
    """One node of this host: how to reach it, and what it said last."""

    name: str
    folder: Path
    sockets: Path
    status: NodeStatus
    remote: RemoteNode | None = None
    pid: int = 0
    watcher: asyncio.Task[None] | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Nodes:
    """All nodes of the host. Every change of any status wakes those who wait in `changed`."""

    def __init__(
        self,
        data: Path,
        host: str,
        store: StoreSettings,
        environment: dict[str, str],
        limits: tuple[int, int],
        guards: GuardSettings,
    ):
        """
        Args:
            data: the host's folder.
            environment: what every node inherits; it must hold no secret.
            limits: ``inline_limit`` and ``blob_limit`` of every engine; see ``AgentSettings``.
            guards: those of every node.
        """
        self._limits = limits
        self._guards = guards
        self._data = data
        self._host = host
        self._store = store
        self._environment = environment
        self._nursery: Nursery | None = None
        self._nursery_lock = asyncio.Lock()
        self._nodes: dict[str, Node] = {}
        self._change = asyncio.Event()
        self.version = 0
        for name in ("nodes", "s", "quarantine"):
            (data / name).mkdir(mode=0o700, parents=True, exist_ok=True)

    def statuses(self) -> list[NodeStatus]:
        """What every node said last, ended ones included until they are replaced."""
        return [node.status for node in self._nodes.values()]

    def live(self, tenant: str) -> Node | None:
        """The tenant's node here, unless it has ended."""
        node = self._nodes.get(tenant)
        return node if node is not None and not node.ended.is_set() else None

    def running(self) -> list[Node]:
        return [node for node in self._nodes.values() if not node.ended.is_set()]

    def proven(self) -> dict[str, str]:
        """For the lease: each tenant's position that was proven in the bucket."""
        return {
            node.status.tenant: f"{node.status.epoch}:{node.status.lag.replicated_txid}"
            for node in self._nodes.values()
            if node.status.lag.proven_at is not None
        }

    async def chain_at(self, tenant: str, sequence: int) -> Chain | None:
        """The chain of a tenant's live log here after an event; None where there is none to ask."""
        node = self.live(tenant)
        if node is None or node.remote is None or not node.status.epoch:
            return None
        try:
            value = await node.remote.chain_at(sequence)
        except WireError:
            return None
        return Chain(epoch=node.status.epoch, value=value)

    async def copy(self, tenant: str) -> Copy | None:
        """An independent copy of a tenant's live log here; None where there is none to copy.

        Raises:
            WireError: it could not be made; the message says why.
        """
        node = self.live(tenant)
        if node is None or node.remote is None:
            return None
        return await node.remote.copy()

    async def export(self, tenant: str) -> tuple[Copy, Path] | None:
        """A tenant's live log here as a file of its own, which the caller removes; None where
        there is none.

        Raises:
            WireError: it could not be made; the message says why.
        """
        node = self.live(tenant)
        if node is None or node.remote is None:
            return None
        into = node.folder / f"export-{secrets.token_hex(4)}.db"
        return await node.remote.export(into), into

    async def changed(self, version: int, wait: float) -> None:
        """Return once anything has changed since ``version``, or after ``wait`` seconds."""
        loop = asyncio.get_running_loop()
        until = loop.time() + wait
        while self.version <= version and (left := until - loop.time()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._change.wait(), left)

    async def warm_up(self) -> None:
        """Start the nursery, so that the first order does not wait for it."""
        async with self._nursery_lock:
            if self._nursery is None or not self._nursery.alive:
                self._nursery = await Nursery.start(self._data / "nursery.log", self._environment)

    async def start(
        self, tenant: str, request: StartRequest, incarnation: str, deadline: float
    ) -> NodeStatus:
        """Begin a take-over; its progress shows in the status.

        Args:
            incarnation: the host's.
            deadline: the host's authority, in seconds of the boot-time clock.

        Raises:
            AlreadyHere: the tenant's earlier node has not ended.
        """
        if self.live(tenant) is not None:
            raise AlreadyHere(f"{tenant} already has a node on {self._host}")
        name = secrets.token_hex(4)
        order = NodeOrder(
            tenant=tenant,
            host=self._host,
            incarnation=f"{incarnation}.{name}",
            deadline=deadline,
            store=self._store,
            tail=find_tail(self._data, tenant),
            inline_limit=self._limits[0],
            blob_limit=self._limits[1],
            guards=self._guards,
            **{field: getattr(request, field) for field in StartRequest.model_fields},
        )
        node = Node(
            name=name,
            folder=self._data / "nodes" / tenant / name,
            sockets=self._data / "s" / name,
            status=NodeStatus(tenant=tenant, host=self._host, incarnation=order.incarnation),
        )
        self._nodes[tenant] = node
        node.folder.mkdir(mode=0o700, parents=True)
        node.sockets.mkdir(mode=0o700)
        try:
            node.pid = await self._spawn(node)
            node.remote = await RemoteNode.connect(node.sockets)
            node.status = await node.remote.start(order, node.folder)
        except (WireError, NurseryLost, OSError) as error:
            if node.pid:
                self._kill_supervisor(node)
            self._end(node, f"the supervisor did not start: {error}")
            return node.status
        node.watcher = asyncio.create_task(self._watch(node, node.remote))
        self._bump()
        return node.status

    async def _spawn(self, node: Node) -> int:
        log = node.folder / "supervisor.log"
        for attempt in range(2):
            await self.warm_up()
            assert self._nursery is not None
            try:
                return await self._nursery.spawn(node.sockets, log)
            except NurseryLost:
                if attempt:
                    raise
        raise AssertionError("unreachable")

    async def _watch(self, node: Node, remote: RemoteNode) -> None:
        try:
            while node.status.state not in ENDED:
                before = node.status.version
                node.status = await remote.status(after=before, wait=STATUS_EVERY)
                if node.status.version != before:
                    self._bump()
            await remote.dismiss()
            self._end(node, node.status.detail)
        except WireError as error:
            # Whatever became of it, it ends now; engine and sidecar die with their supervisor, by
            # the kernel's hand. Only then may anybody be told that the node is over.
            self._kill_supervisor(node)
            self._end(node, f"the supervisor process ended without a word: {error}")

    @staticmethod
    def _kill_supervisor(node: Node) -> None:
        with contextlib.suppress(ProcessLookupError):
            # A supervisor leads a session of its own: a pid that was given out again does not.
            if os.getsid(node.pid) == node.pid:
                os.kill(node.pid, signal.SIGKILL)

    def _end(self, node: Node, detail: str) -> None:
        state = node.status.state if node.status.state in ENDED else NodeState.FAILED
        node.status = node.status.model_copy(
            update={"state": state, "detail": detail, "serving": False}
        )
        self._put_away(node)
        node.ended.set()
        self._bump()

    def _put_away(self, node: Node) -> None:
        """Remove the files of a node that released them; keep all others out of the way.

        After a release, the bucket holds everything, proven. In every other case these files may
        be the only copy of an asynchronous tail.
        """
        with contextlib.suppress(OSError):
            shutil.rmtree(node.sockets)
        if node.status.state is NodeState.RELEASED:
            shutil.rmtree(node.folder, ignore_errors=True)
            return
        epoch = node.status.epoch
        kept = f"{node.status.tenant}-{epoch:08d}-{node.name}-{int(time.time())}"
        with contextlib.suppress(OSError):
            node.folder.rename(self._data / "quarantine" / kept)

    def put_away_leftovers(self) -> None:
        """Move what nodes of an earlier agent have left to the quarantine, for their tails.

        Called once, after joining: by then their processes have ended by their own deadlines, and
        whoever uses a tail makes sure of that by its locks.
        """
        for folder in (self._data / "nodes").glob("*/*"):
            if self.live(folder.parent.name) is not None:
                continue
            try:
                epoch = int((folder / "epoch").read_text())
            except (OSError, ValueError):
                epoch = 0
            kept = f"{folder.parent.name}-{epoch:08d}-{folder.name}-{int(time.time())}"
            with contextlib.suppress(OSError):
                folder.rename(self._data / "quarantine" / kept)

    async def extend(self, deadline: float) -> None:
        """Let all nodes live until ``deadline``. One that does not answer fences itself."""
        await self._each(lambda remote: remote.extend(deadline))

    async def fence_all(self) -> None:
        """End all nodes now. Those that do not answer end by their own watchdogs."""
        await self._each(lambda remote: remote.fence())
        await self._all_ended(5.0)

    async def fence(self, tenant: str) -> bool:
        """End one tenant's node now, if it is here; whether none is left."""
        node = self.live(tenant)
        if node is not None and node.remote is not None:
            with contextlib.suppress(WireError):
                await node.remote.fence()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(node.ended.wait(), 5.0)
        return self.live(tenant) is None

    async def check(self, tenant: str, request: CodeRequest) -> CheckStatus:
        """Begin a check of other code for a tenant. Raises `NotHere`, `WireError`."""
        return await self._remote(tenant).check(request.app, request.kept)

    async def look_at_check(self, tenant: str, wait: float) -> CheckStatus | None:
        """The newest check of a tenant, once it is over or after ``wait`` seconds. Raises
        `NotHere`, `WireError`."""
        return await self._remote(tenant).look_at_check(wait)

    async def upgrade(self, tenant: str, request: CodeRequest) -> None:
        """Have a tenant's engine restarted with other code. Raises `NotHere`, `WireError`."""
        await self._remote(tenant).upgrade(request.app, request.kept, request.release)

    def _remote(self, tenant: str) -> RemoteNode:
        node = self.live(tenant)
        if node is None or node.remote is None:
            raise NotHere(f"{tenant} has no node on {self._host}")
        return node.remote

    async def drain(self, tenant: str) -> None:
        """Begin a planned stop of one tenant's node. No error if it is not here."""
        node = self.live(tenant)
        if node is not None and node.remote is not None:
            with contextlib.suppress(WireError):
                await node.remote.drain()

    async def drain_all(self, timeout: float) -> bool:
        """Stop all nodes in the planned way; whether all had ended within ``timeout`` seconds."""
        await self._each(lambda remote: remote.drain())
        return await self._all_ended(timeout)

    async def close(self) -> None:
        """End the nursery. Nodes that still run go on until their deadline."""
        for node in self._nodes.values():
            if node.watcher is not None:
                node.watcher.cancel()
        if self._nursery is not None:
            await self._nursery.stop()

    async def _each(self, call: Callable[[RemoteNode], Coroutine[Any, Any, None]]) -> None:
        async def one(node: Node) -> None:
            if node.remote is None:
                return
            with contextlib.suppress(WireError, TimeoutError):
                await asyncio.wait_for(call(node.remote), 2.0)

        await asyncio.gather(*(one(node) for node in self.running()))

    async def _all_ended(self, timeout: float) -> bool:
        waiting = [asyncio.create_task(node.ended.wait()) for node in self.running()]
        if not waiting:
            return True
        _, left = await asyncio.wait(waiting, timeout=timeout)
        for task in left:
            task.cancel()
        return not left

    def _bump(self) -> None:
        self.version += 1
        self._change.set()
        self._change = asyncio.Event()


def clean_environment() -> dict[str, str]:
    """What nodes inherit of this process's environment: what a program needs to run, no more."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TZ", "HOME") if name in os.environ}
    # Sets of strings must iterate alike in every life of an engine, or a replay could diverge.
    kept["PYTHONHASHSEED"] = "0"
    # A tenant's application may lie in a folder that this process found by its own search path.
    kept["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return kept


def find_tail(data: Path, tenant: str) -> Tail | None:
    """The newest database of the tenant that an earlier node has left on this host."""
    pattern = re.compile(rf"{re.escape(tenant)}-(\d{{8}})-[0-9a-f]{{8}}-\d+")
    found = [
        Tail(epoch=int(match[1]), database=folder / "data" / "log.db")
        for folder in (data / "quarantine").iterdir()
        if (match := pattern.fullmatch(folder.name)) and (folder / "data" / "log.db").exists()
    ]
    return max(found, key=lambda tail: tail.epoch, default=None)
