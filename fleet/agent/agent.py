"""The host agent's life: join, renew, lose, stop everything, join again."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict

from backup.errors import StoreError
from backup.lease import Load, boottime
from backup.settings import StoreSettings
from backup.store import ObjectStore, S3Store
from fleet.agent.authority import LeaseKeeper, LeaseLost, next_renewal
from fleet.agent.doorway import Doorway
from fleet.agent.drilling import Drilling
from fleet.agent.memory import Memory
from fleet.agent.nodes import NoAuthority, Nodes, StartRequest
from fleet.agent.resources import Meter
from fleet.agent.tidying import Tidying
from fleet.runtimes.choice import accounts_of, runtime_of, store_of_nodes
from fleet.settings import LIMITS, AgentSettings
from node.order import NodeState, NodeStatus
from node.users import Rlimits

BROUGHT_UP = frozenset({NodeState.STARTING, NodeState.RESTORING})
"""States of a node that is on its way to serving: it takes the host's disk and network."""
DRAIN_TIMEOUT = 40.0
"""Seconds for all nodes to be released at a planned stop."""
REJOIN_PAUSE = 1.0
"""Seconds between two tries to join while the store does not answer."""


def lease_store(settings: StoreSettings) -> S3Store:
    """The store as the lease uses it: a try that hangs must end well before the deadline does."""
    return S3Store(
        settings.model_copy(update={"connect_timeout": 1.0, "read_timeout": 1.5}), read_attempts=1
    )


class Agent:
    """One host: its lease, its nodes, and what happens to the nodes when the lease is lost."""

    def __init__(self, settings: AgentSettings, store: ObjectStore | None = None):
        self.host = settings.host
        self._settings = settings
        self._address = settings.advertise or ""
        self.nodes = Nodes(
            settings.data,
            settings.host,
            store_of_nodes(settings),
            runtime_of(settings),
            settings.model_dump(include=LIMITS),
            settings.guards,
            settings.copy_keys,
            accounts_of(settings),
            Rlimits(
                files=settings.limits.files,
                processes=settings.limits.pids if settings.own_users else None,
            ),
        )
        self.drills = Drilling(settings.store, settings.data / "drills", settings.host)
        self.tidying = Tidying(
            S3Store(settings.store), settings.data, settings.quarantine_days, self._say
        )
        self.doorway = Doorway(
            S3Store(settings.store),
            self.nodes,
            settings.host,
            settings.token.get_secret_value(),
            settings.gateway,
        )
        self._meter = Meter(settings.data)
        self._keeper = LeaseKeeper(
            store or lease_store(settings.store),
            settings.host,
            self._load,
            self.nodes.proven,
            say=self._say,
        )
        self._memory = Memory(settings.data, settings.host)
        self._joined = False
        self._coordinator_epoch = 0
        self._aside = False
        self._stopping = asyncio.Event()
        self._starting = asyncio.Lock()

    @property
    def incarnation(self) -> str | None:
        """The lease under which this host runs nodes now, None while it has none."""
        return self._keeper.incarnation if self._joined else None

    @property
    def has_authority(self) -> bool:
        authority = self._keeper.authority
        return self._joined and authority is not None and authority.alive(boottime())

    def heard_of(self, epoch: int) -> bool:
        """Note the epoch of a coordinator that has something to say; whether it may give orders,
        that is, no later one has been here."""
        self._coordinator_epoch = max(self._coordinator_epoch, epoch)
        return epoch == self._coordinator_epoch

    def answers_at(self, address: str) -> None:
        """Note where the API listens, for the lease; an advertised address has precedence."""
        self._address = self._settings.advertise or address

    def stop(self) -> None:
        """Begin a planned stop of the host: all nodes are drained and the lease is given back."""
        self._stopping.set()

    def step_aside(self) -> None:
        """Begin to make room for another agent on this host: the nodes run on, and whoever is
        started within the deadline goes on with them."""
        self._aside = True
        self._stopping.set()

    async def start(self, tenant: str, request: StartRequest) -> NodeStatus:
        """Start a node, as `Nodes.start`.

        Raises:
            NoAuthority: the host has no lease, or is stopping.
            AlreadyHere: the tenant's earlier node has not ended.
        """
        async with self._starting:
            authority = self._keeper.authority
            if not self.has_authority or authority is None or self._stopping.is_set():
                raise NoAuthority(f"{self.host} holds no lease at present")
            return await self.nodes.start(
                tenant, request, self._keeper.incarnation, authority.deadline
            )

    async def run(self) -> None:
        """Hold the lease until `stop`; each loss ends all nodes and begins a new incarnation.

        Raises:
            AnotherAgent: one runs on this host's folder already.
            ClockSkewed: this host must not own anything.
            RuntimeFailed: what an earlier agent has left here does not end.
            StoreError: the store could not be reached at the very start.
        """
        self._memory.hold()
        await self.nodes.warm_up()
        if not await self._resume():
            await self.nodes.adopt("")
            await self._keeper.join()
            self._note()
            self._say(f"{self.host} has joined as {self._keeper.incarnation}")
        self.nodes.put_away_leftovers()
        tidying = asyncio.create_task(self.tidying.run())
        try:
            await self._live()
        finally:
            tidying.cancel()
        await self.doorway.close()
        await self.nodes.close()
        self._memory.close()

    async def _live(self) -> None:
        """Hold the lease, under one incarnation after the other, until `stop`."""
        while True:
            self._joined = True
            try:
                await self._renew_until_stopped()
            except LeaseLost as error:
                self._joined = False
                self._memory.forget()
                self._say(f"{self.host} stops all its nodes: {error}")
                await self.nodes.fence_all()
                await self._rejoin()
                if self._stopping.is_set():
                    break
                self._note()
                self._say(f"{self.host} has joined as {self._keeper.incarnation}")
                continue
            break
        if self._joined and self._aside:
            await self._renew_last()
        elif self._joined:
            await self._leave()

    async def _resume(self) -> bool:
        """Go on where an earlier agent of this host has stopped; whether that can be."""
        before = self._memory.recall()
        if before is None or not await self._keeper.resume(before.incarnation, before.deadline):
            return False
        await self.nodes.adopt(before.incarnation)
        try:
            await self._renew()
        except LeaseLost as error:
            self._say(f"{self.host} cannot go on as {before.incarnation}: {error}")
            await self.nodes.fence_all()
            return False
        tenants = ", ".join(sorted(node.status.tenant for node in self.nodes.running()))
        self._say(f"{self.host} goes on as {before.incarnation} with {tenants or 'no tenants'}")
        return True

    def _note(self) -> None:
        assert self._keeper.authority is not None
        self._memory.note(self._keeper.incarnation, self._keeper.authority.deadline)

    async def _renew_last(self) -> None:
        """Leave whoever comes next as much time as there can be."""
        try:
            await self._renew()
        except LeaseLost as error:
            self._say(f"{self.host} stops all its nodes: {error}")
            await self.nodes.fence_all()

    async def _renew_until_stopped(self) -> None:
        failed = False
        while not self._stopping.is_set():
            try:
                await asyncio.wait_for(self._stopping.wait(), next_renewal(failed))
                return
            except TimeoutError:
                pass
            failed = not await self._renew()

    async def _renew(self) -> bool:
        """One try; whether the deadline has moved."""
        for tenant, epoch in self._keeper.revoked.items():
            node = self.nodes.live(tenant)
            if node is not None and node.status.epoch <= epoch:
                self._say(f"{tenant} was revoked from {self.host} at epoch {epoch}")
                if not await self.nodes.fence(tenant):
                    # The renewal would tell whoever waits for it that the node is gone.
                    return False
        assert self._keeper.authority is not None
        before = self._keeper.authority.deadline
        try:
            deadline = await self._keeper.renew()
        except StoreError as error:
            self._say(f"the lease was not renewed: {error}")
            return False
        self._note()
        await self.nodes.extend(deadline)
        # Somebody else's write was only adopted if the deadline stands: try again soon.
        return deadline > before

    async def _leave(self) -> None:
        """Drain under a lease that goes on being renewed, then give it back."""
        renewing = asyncio.create_task(self._renew_while_draining())
        try:
            if not await self.nodes.drain_all(DRAIN_TIMEOUT):
                self._say("not every node was released in time; the rest is fenced")
                await self.nodes.fence_all()
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
        self._joined = False
        self._memory.forget()
        await self._keeper.resign()

    async def _renew_while_draining(self) -> None:
        while True:
            await self._renew()
            await asyncio.sleep(next_renewal(failed=False))

    async def _rejoin(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._keeper.join()
            except StoreError as error:
                self._say(f"cannot join again yet: {error}")
                await asyncio.sleep(REJOIN_PAUSE)
            else:
                return

    def _load(self) -> Load:
        nodes = self.nodes.running()
        return Load(
            address=self._address,
            nodes=len(nodes),
            restoring=sum(node.status.state in BROUGHT_UP for node in nodes),
            **asdict(self._meter.look()),
        )

    @staticmethod
    def _say(text: str) -> None:
        print(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}", flush=True)
