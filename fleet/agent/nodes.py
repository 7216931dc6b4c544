"""The nodes of one host: started on order, extended with the lease, ended with it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from backup.copies import Copy
from backup.guards import GuardSettings
from backup.ownership import Durability, Origin
from backup.receipts import HostRemains
from backup.sealing import KeySource
from backup.settings import Credentials, StoreSettings
from fleet.agent import remains
from fleet.runtimes.accounts import Accounts
from fleet.runtimes.protocol import Handle, Label, Place, Runtime, RuntimeFailed
from node.checks import CheckStatus
from node.order import ENDED, NodeOrder, NodeState, NodeStatus
from node.remote import RemoteNode
from node.users import Rlimits
from node.wire import WireError

ADOPT_TIMEOUT = 2.0
"""Seconds for a supervisor of an earlier agent to answer its new one."""
KILL_AGAIN = 1.0
"""Seconds between two tries to end a node that does not end."""
NO_RLIMITS = Rlimits()
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

    place: Place
    status: NodeStatus
    remote: RemoteNode | None = None
    handle: Handle | None = None
    watcher: asyncio.Task[None] | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Nodes:
    """All nodes of the host. Every change of any status wakes those who wait in `changed`."""

    def __init__(
        self,
        data: Path,
        host: str,
        store: StoreSettings,
        runtime: Runtime,
        limits: Mapping[str, Any],
        guards: GuardSettings,
        copy_keys: KeySource | None = None,
        accounts: Accounts | None = None,
        rlimits: Rlimits = NO_RLIMITS,
    ):
        """
        Args:
            data: the host's folder.
            runtime: brings up the supervisors, and ends them.
            limits: ``inline_limit``, ``blob_limit``, ``keep_closed`` and ``keep_history`` of every
                engine; see ``AgentSettings``.
            guards: those of every node.
            copy_keys: what the tenants' independent copies are sealed with; None for not at all.
            accounts: whom each tenant's processes run as; None: all as this one.
            rlimits: those of every engine.
        """
        self._copy_keys = copy_keys
        self._accounts = accounts
        self._rlimits = rlimits
        self._limits = limits
        self._guards = guards
        self._data = data
        self._host = host
        self._store = store
        self._runtime = runtime
        self._nodes: dict[str, Node] = {}
        self._change = asyncio.Event()
        self.version = 0
        for name in ("nodes", "s", "quarantine"):
            (data / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        if accounts is not None:
            # They pass through to what is theirs, and see nothing on the way.
            for folder in (data, data / "nodes", data / "s"):
                folder.chmod(0o711)

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
            BadKeys: it is to be sealed, and there are no keys.
            WireError: it could not be made; the message says why.
        """
        node = self.live(tenant)
        if node is None or node.remote is None:
            return None
        key = None
        if self._copy_keys is not None:
            key = (await asyncio.to_thread(self._copy_keys.read)).for_tenant(tenant)
        return await node.remote.copy(key)

    async def export(self, tenant: str) -> tuple[Copy, Path] | None:
        """A tenant's live log here as a file of its own, which the caller removes; None where
        there is none.

        Raises:
            WireError: it could not be made; the message says why.
        """
        node = self.live(tenant)
        if node is None or node.remote is None:
            return None
        into = node.place.folder / f"export-{secrets.token_hex(4)}.db"
        return await node.remote.export(into), into

    async def changed(self, version: int, wait: float) -> None:
        """Return once anything has changed since ``version``, or after ``wait`` seconds."""
        loop = asyncio.get_running_loop()
        until = loop.time() + wait
        while self.version <= version and (left := until - loop.time()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._change.wait(), left)

    async def warm_up(self) -> None:
        """Make ready, so that the first order does not wait for it."""
        with contextlib.suppress(RuntimeFailed):  # the first order says so
            await self._runtime.warm_up()

    async def start(
        self, tenant: str, request: StartRequest, incarnation: str, deadline: float
    ) -> NodeStatus:
        """Begin a take-over; its progress shows in the status.

        Args:
            incarnation: the host's.
            deadline: the host's authority, in seconds of the boot-time clock.

        Raises:
            AlreadyHere: the tenant's earlier node has not ended.
            NoAccount: there is no user left for it.
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
            tail=remains.find_tail(self._data, tenant),
            **self._limits,
            guards=self._guards,
            users=self._accounts.of(tenant) if self._accounts is not None else None,
            rlimits=self._rlimits,
            **{field: getattr(request, field) for field in StartRequest.model_fields},
        )
        place = Place(
            tenant=tenant,
            name=name,
            folder=self._data / "nodes" / tenant / name,
            sockets=self._data / "s" / name,
        )
        status = NodeStatus(tenant=tenant, host=self._host, incarnation=order.incarnation)
        node = self._nodes[tenant] = Node(place, status)
        place.folder.parent.mkdir(mode=0o711, exist_ok=True)
        place.folder.mkdir(mode=0o700)
        place.sockets.mkdir(mode=0o700)
        reads = [order.tail.database.parent.parent] if order.tail is not None else []
        try:
            node.handle = await self._runtime.start(place, reads)
            # Before it is told anything: an agent that comes after this one must find it.
            Label(place=place, incarnation=order.incarnation, handle=node.handle).write()
            node.remote = await RemoteNode.connect(place.sockets)
            node.status = await node.remote.start(order, place.folder)
        except (WireError, RuntimeFailed, OSError) as error:
            await self._kill(node)
            self._end(node, f"the supervisor did not start: {error}")
            return node.status
        node.watcher = asyncio.create_task(self._watch(node, node.remote))
        self._bump()
        return node.status

    async def adopt(self, authority: str) -> None:
        """Go on with the nodes that an earlier agent has left, if they live under this lease; end
        all others, and wait until they are gone.

        Args:
            authority: the incarnation of the host's lease; none lives under an empty one.

        Raises:
            RuntimeFailed: it cannot be told that the others are gone.
        """
        for label in list(remains.labels(self._data)):
            if not authority or not label.incarnation.startswith(f"{authority}."):
                continue
            with contextlib.suppress(WireError, TimeoutError):
                remote = await RemoteNode.connect(label.place.sockets, ADOPT_TIMEOUT)
                # One that hangs is connected to by the kernel, and never answers.
                status = await asyncio.wait_for(remote.status(), ADOPT_TIMEOUT)
                node = Node(label.place, status, remote, label.handle)
                self._nodes[label.place.tenant] = node
                node.watcher = asyncio.create_task(self._watch(node, remote))
        adopted = {node.place.name for node in self.running()}
        for label in list(remains.labels(self._data)):
            if label.place.name not in adopted:
                await self._runtime.kill(label.handle)
                with contextlib.suppress(OSError):
                    shutil.rmtree(label.place.sockets)
        await self._runtime.end_strays([node.handle for node in self.running() if node.handle])
        self._bump()

    async def _watch(self, node: Node, remote: RemoteNode) -> None:
        try:
            while node.status.state not in ENDED:
                before = node.status.version
                node.status = await remote.status(after=before, wait=STATUS_EVERY)
                if node.status.version != before:
                    self._bump()
            await remote.dismiss()
            await self._kill(node)  # nothing of it runs any more, but a container stays
            self._end(node, node.status.detail)
        except WireError as error:
            # Whatever became of it, it ends now. Only when all of it is gone may anybody be told
            # that the node is over.
            await self._kill(node)
            self._end(node, f"the supervisor process ended without a word: {error}")

    async def _kill(self, node: Node) -> None:
        while node.handle is not None:
            try:
                await self._runtime.kill(node.handle)
                return
            except RuntimeFailed as error:
                node.status = node.status.model_copy(update={"detail": str(error)})
                self._bump()
                await asyncio.sleep(KILL_AGAIN)

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
            shutil.rmtree(node.place.sockets)
        if node.status.state is NodeState.RELEASED:
            shutil.rmtree(node.place.folder, ignore_errors=True)
        else:
            remains.keep(self._data, node.place.folder, node.status.epoch)

    def put_away_leftovers(self) -> None:
        """Move what nodes of an earlier agent have left to the quarantine, for their tails.

        Called once, after joining: by then none of their processes is left, and whoever uses a tail
        makes sure of that by its locks.
        """
        used = {node.place.folder for node in self.running()}
        for folder in remains.folders(self._data):
            if folder not in used:
                remains.keep(self._data, folder)

    async def remove_remains(self, tenant: str, epoch: int) -> HostRemains:
        """Remove what earlier nodes of a tenant that is gone have left here, up to its last epoch.

        Raises:
            AlreadyHere: it has a node here that has not ended.
        """
        if self.live(tenant) is not None:
            raise AlreadyHere(f"{tenant} still has a node on {self._host}")
        return await asyncio.to_thread(remains.remove, self._data, tenant, epoch)

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
        """Let go. Nodes that still run go on until their deadline."""
        for node in self._nodes.values():
            if node.watcher is not None:
                node.watcher.cancel()
        await self._runtime.close()

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

    def note_change(self) -> None:
        """Have whoever waits for a change look: not at the nodes, but at what is said of them."""
        self._bump()

    def _bump(self) -> None:
        self.version += 1
        self._change.set()
        self._change = asyncio.Event()
