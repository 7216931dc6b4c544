"""The coordinator's loop: look, decide, act, and note what was done."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import time
from collections.abc import Callable, Coroutine
from typing import Any

import httpx

from backup import keys, records
from backup.errors import Precondition, StoreError
from backup.lease import LeaseState, fenced
from backup.ownership import Durability, Origin, TenantRecord
from backup.settings import REVEAL
from backup.store import ObjectStore
from fleet.agent.nodes import StartRequest
from fleet.coordinator.account import Ordered, Tenant, TenantExists, recovery_of
from fleet.coordinator.asking import Asked, asked
from fleet.coordinator.catalog import CatalogCopy
from fleet.coordinator.copying import Copies
from fleet.coordinator.cordons import Cordons
from fleet.coordinator.decide import decide
from fleet.coordinator.deletions import Deletions
from fleet.coordinator.drills import Drills
from fleet.coordinator.history import History
from fleet.coordinator.lifecycle import Lifecycle, is_resting
from fleet.coordinator.observe import Observer
from fleet.coordinator.own_log import OwnLog
from fleet.coordinator.picture import (
    Brake,
    Bury,
    Drain,
    Fence,
    Picture,
    SeenHost,
    Sleep,
    Sleeping,
    Start,
    Upgrade,
    Wake,
)
from fleet.coordinator.recording import note_failed, note_started
from fleet.coordinator.restores import Restores
from fleet.coordinator.retention import Epochs
from fleet.coordinator.rounds import Rounds
from fleet.coordinator.standing import standing_of
from fleet.coordinator.timeline import TimelineLog
from fleet.coordinator.upgrades import Upgrades
from fleet.gateway.gate import Gate
from fleet.issuer import CredentialIssuer
from fleet.settings import Chores, GatewaySettings, SleepSettings
from node.order import ENDED, NodeState, NodeStatus

TICK = 0.5
"""Seconds between two looks at the leases."""
CATALOG_EVERY = 30.0
"""Seconds between two full reads of the catalog; changes made here are known at once."""
ORDER_TIMEOUT = 15.0
"""Seconds after which an order that no agent shows any trace of counts as lost."""
RETRY_AFTER = 2.0
"""Seconds before a tenant whose start failed is started again."""


class Coordinator:
    """Keeps every tenant of the fleet running on some host."""

    def __init__(
        self,
        store: ObjectStore,
        issuer: CredentialIssuer,
        token: str,
        http: httpx.AsyncClient,
        chores: Chores,
        history: History,
        holds: Callable[[], bool] = lambda: True,
        copy: CatalogCopy | None = None,
        log: OwnLog | None = None,
        gateway: GatewaySettings | None = None,
        sleep: SleepSettings | None = None,
    ):
        """
        Args:
            history: where operations are recorded.
            holds: whether this is still the active coordinator; asked before every action.
            copy: of the catalog.
            log: where operations that were asked for are carried out; None: they are not granted.
        """
        self._copy = copy
        self._holds = holds
        self._store = store
        self._issuer = issuer
        self._http = http
        self._headers = {"authorization": f"Bearer {token}"}
        self._sleeping = Sleeping(**(sleep or SleepSettings()).model_dump())
        self._wake = asyncio.Event()
        self._lost_since: dict[str, tuple[float, float]] = {}
        self._resumed: set[str] = set()
        self._began = time.monotonic()
        self._catalog_at = -math.inf
        self._leases_at = -math.inf
        self._acting: set[asyncio.Task[None]] = set()
        self._said: set[str] = set()
        self.history = history
        self.timeline = TimelineLog(history=self.history)
        self.tenants: dict[str, Tenant] = {}
        self.braked_hosts: tuple[str, ...] = ()
        self.observer = Observer(
            store, http, token, on_change=self._host_changed, on_sought=self._wanted
        )
        self.gate = Gate(
            gateway or GatewaySettings(),
            functools.partial(standing_of, self.tenants, self.observer.hosts),
            self._wanted,
        )
        self.upgrades = Upgrades(self, store, http, token)
        self.restores = Restores(self, store, issuer, http, token, log)
        self.lifecycle = Lifecycle(self, store, http, token)
        self.cordons = Cordons(self, store)
        shared = (self.observer, self.tenants, self.timeline, http, token)
        self.drills = Drills(store, issuer, *shared)
        self.copies = Copies(
            store, *shared, keep_days=chores.copy_days, keep_least=chores.copies_least
        )
        self.epochs = Epochs(
            store, self.tenants, self.restores.running, self.timeline, days=chores.epoch_days
        )
        self.deletions = Deletions(self, store, issuer, http, token, grace_days=chores.grace_days)
        self._rounds = (
            Rounds(self._active, self.epochs.looked_at, self.epochs.tidy, every=chores.purge_every),
            Rounds(
                self._active, self.drills.verified_at, self.drills.drill, every=chores.drill_every
            ),
            Rounds(self._active, self.copies.made_at, self.copies.copy, every=chores.copy_every),
        )

    def _active(self) -> list[str]:
        return [name for name, tenant in self.tenants.items() if tenant.state(None) == "active"]

    # -- what callers of the API ask ------------------------------------------------------------

    async def create(
        self, name: str, app: str, durability: Durability, env: dict[str, str]
    ) -> Tenant:
        """Write a new tenant's wanted state to the bucket; its node is started soon after.

        Raises:
            BadTenantName: the name is not allowed.
            TenantExists: there is one of that name.
            StoreError: nothing is known of the outcome; creating it again tells.
        """
        keys.check_tenant(name)
        wanted = TenantRecord(
            tenant=name, app=app, durability=durability, env=env, created_at=time.time()
        )
        return await self._create(wanted, f"{name} was created")

    async def create_fork(self, name: str, source: str, origin: Origin) -> Tenant:
        """As `create`, of a tenant that begins as a past state of another one and is otherwise
        wanted as that is."""
        like = self.tenants[source].wanted.model_dump(
            include={"app", "durability", "env", "kept", "release"}
        )
        wanted = TenantRecord(tenant=name, created_at=time.time(), restore=origin, **like)
        return await self._create(wanted, f"{name} was forked from {source} at {origin.bookmark}")

    async def _create(self, wanted: TenantRecord, words: str) -> Tenant:
        name, key = wanted.tenant, keys.wanted(wanted.tenant)

        def free(now: TenantRecord | None) -> TenantRecord | None:
            if now is None:
                return wanted
            if wanted.restore and now.restore and now.restore.asked == wanted.restore.asked != "":
                return None  # the same fork, told once more
            if now.gone:
                follows = now.deletion.number if now.deletion is not None else 0
                return wanted.model_copy(update={"rev": now.rev + 1, "follows": follows})
            if now.nonce == wanted.nonce:
                return None
            raise TenantExists(
                f"there is a tenant {name!r} that is deleted, and can be brought back still"
                if now.deletion is not None
                else f"there is a tenant {name!r} already"
            )

        record = await asyncio.to_thread(records.change, self._store, key, TenantRecord, free)
        assert record is not None
        wanted = record
        known = self.tenants.get(name)
        if known is not None and known.wanted.nonce == wanted.nonce:
            return known
        tenant = Tenant(wanted, asked=asked())
        self.tenants[name] = tenant
        self.deletions.gone.pop(name, None)
        self.timeline.note("tenant_created", words, tenant=name)
        self._act(self._keep_copy())
        self._wake.set()
        return tenant

    @property
    def knows(self) -> bool:
        """Whether it has read the catalog: before that, a tenant that it does not know may be."""
        return self._catalog_at > -math.inf

    def wake(self) -> None:
        """Look again at once."""
        self._wake.set()

    def resume(self) -> tuple[str, ...]:
        """Release the brake for the hosts that it holds now; their names."""
        held = self.braked_hosts
        self._resumed.update(held)
        self.braked_hosts = ()
        if held:
            self.timeline.note("resumed", f"an operator confirmed the loss of {', '.join(held)}")
            self.history.note("resume", data={"hosts": list(held)})
        self._wake.set()
        return held

    # -- the loop -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look, decide and act until cancelled. A store that does not answer is waited for."""
        self._acting.update(asyncio.create_task(rounds.run()) for rounds in self._rounds)
        self._acting.add(asyncio.create_task(self.deletions.run()))
        self._acting.add(asyncio.create_task(self.history.run()))
        try:
            while True:
                try:
                    await self._turn()
                except StoreError as error:
                    self.say_once(f"the store does not answer: {error}")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), TICK)
                self._wake.clear()
        finally:
            await self.upgrades.close()
            await self.restores.close()
            for task in self._acting:
                task.cancel()
            await asyncio.gather(*self._acting, return_exceptions=True)
            await self.observer.close()
            await self.history.close()

    async def _turn(self) -> None:
        if time.monotonic() - self._leases_at >= TICK:
            # Not on every wake-up: news of nodes must not turn into reads of the bucket.
            for name in await self.observer.look_at_leases():
                self.timeline.note("host_joined", f"{name} is in the fleet", host=name)
            self._leases_at = time.monotonic()
        if time.monotonic() - self._catalog_at > CATALOG_EVERY:
            await self._read_catalog()
        self._follow_nodes()
        await self._read_stale_owners()
        self.gate.look()
        for action in decide(self._picture()):
            if not self._holds():
                return
            if isinstance(action, Fence):
                await self._fence(action)
            elif isinstance(action, Brake):
                self._brake(action)
            elif isinstance(action, Upgrade):
                self._act(self.upgrades.order(action))
            elif isinstance(action, Drain):
                self._act(self.lifecycle.order(action))
            elif isinstance(action, Sleep):
                self._act(self.lifecycle.sleep_soon(action.tenant, "idle"))
            elif isinstance(action, Wake):
                self._act(self.lifecycle.woken(action))
            elif isinstance(action, Bury):
                await self.deletions.bury(action)
            else:
                self._begin(action)

    async def _read_catalog(self) -> None:
        """Those that sleep are known, and change only through this coordinator: they cost a share
        of the list, and no request of their own."""
        asleep = {name for name, tenant in self.tenants.items() if is_resting(tenant)}
        for name, wanted in (await self.observer.read_catalog(without=asleep)).items():
            if wanted.gone:
                self.deletions.forget(wanted)
                continue
            known = self.tenants.setdefault(name, Tenant(wanted))
            if wanted.rev >= known.wanted.rev:  # it may have been changed since it was read
                known.wanted = wanted
            known.stale = True
        for why in self.observer.unreadable.values():
            self.say_once(f"{why}; `litefleet recover` tells more")
        await self.cordons.read()
        await self._keep_copy()
        self._catalog_at = time.monotonic()

    async def _keep_copy(self) -> None:
        if self._copy is not None:
            known = {name: tenant.wanted for name, tenant in self.tenants.items()}
            await self._copy.keep(known | self.deletions.gone)

    async def _read_stale_owners(self) -> None:
        async def one(name: str, tenant: Tenant) -> None:
            with contextlib.suppress(StoreError):
                tenant.owner, tenant.owner_at = await self.observer.read_owner(name)
                tenant.stale = False

        stale = [(name, tenant) for name, tenant in self.tenants.items() if tenant.stale]
        await asyncio.gather(*(one(name, tenant) for name, tenant in stale))

    def seen_hosts(self) -> dict[str, SeenHost]:
        """The hosts as they are seen now, with what is wanted of them."""
        now = time.monotonic()
        return {
            name: host.seen(now, self.cordons.known.get(name))
            for name, host in self.observer.hosts.items()
        }

    def _picture(self) -> Picture:
        now = time.monotonic()
        return Picture(
            hosts=self.seen_hosts(),
            tenants={
                name: tenant.seen(now, requested=self.gate.busy(name))
                for name, tenant in self.tenants.items()
                # The order of one that is to be read again counts for its host all the same.
                if not tenant.stale or tenant.ordered is not None
            },
            watching_for=now - self._began,
            now=now,
            wall=time.time(),
            resumed=frozenset(self._resumed),
            sleeping=self._sleeping,
        )

    # -- acting ---------------------------------------------------------------------------------

    async def _fence(self, action: Fence) -> None:
        host = self.observer.hosts[action.host]
        detected_at = time.time()
        silent = detected_at - host.changed_at
        self.timeline.note(
            "lease_expired",
            f"{action.host} has not renewed its lease for {silent:.1f} s",
            host=action.host,
            seconds=silent,
        )
        incarnation = action.lease.record.incarnation
        # Before the write: one whose answer is lost may have fenced the host all the same.
        self._lost_since[incarnation] = (host.changed_at, detected_at)
        try:
            written = await asyncio.to_thread(
                records.swap,
                self._store,
                keys.lease(action.host),
                fenced(action.lease.record),
                action.lease.etag,
            )
        except Precondition:
            # It renewed after all: the next look will show it.
            del self._lost_since[incarnation]
            return
        self.observer.wrote_lease(action.host, written)
        self._resumed.discard(action.host)
        self.timeline.note(
            "lease_fenced", f"{action.host} is fenced; its tenants move", host=action.host
        )
        self.history.note(
            "fence",
            id=f"fence/{action.host}/{incarnation}",
            asked_by=Asked(why="its lease was not renewed"),
            steps={"detect": silent, "fence": time.time() - detected_at},
            from_host=action.host,
        )
        for tenant in self.tenants.values():
            if tenant.owner is not None and tenant.owner.record.host == action.host:
                tenant.stale = True
            if tenant.ordered is not None and tenant.ordered.action.host == action.host:
                tenant.ordered = None
                tenant.stale = True
        await self._read_stale_owners()
        self._wake.set()

    def _brake(self, action: Brake) -> None:
        if set(action.hosts) != set(self.braked_hosts):
            self.timeline.note(
                "brake",
                f"{', '.join(action.hosts)} look lost at once; nothing is fenced until "
                "`litefleet resume`",
                hosts=list(action.hosts),
            )
        self.braked_hosts = action.hosts

    def _begin(self, action: Start) -> None:
        tenant = self.tenants[action.tenant]
        # By the lease's incarnation, not by the host: a host can be lost more than once.
        authority = tenant.owner.record.owner.authority if tenant.owner else ""
        since, detected = self._lost_since.get(authority, (None, None))
        before = frozenset(
            node.incarnation
            for node in self.observer.hosts[action.host].nodes
            if node.tenant == action.tenant
        )
        tenant.ordered = Ordered(action, time.monotonic(), before, since, detected)
        self.timeline.note(
            "takeover_ordered",
            f"{action.host} shall run {action.tenant} ({action.cause.replace('_', ' ')})",
            tenant=action.tenant,
            host=action.host,
            cause=action.cause,
        )
        self._act(self._order(action, tenant))

    def _act(self, acting: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(acting)
        self._acting.add(task)
        task.add_done_callback(self._acting.discard)

    async def _order(self, action: Start, tenant: Tenant) -> None:
        try:
            sidecar = await tenant.issued(self._issuer)
            request = StartRequest(
                app=tenant.wanted.app,
                durability=tenant.wanted.durability,
                env=tenant.wanted.env,
                kept=tenant.wanted.kept,
                release=tenant.wanted.release,
                expected=action.expected,
                authority_ended=action.authority_ended,
                floor_txid=action.floor_txid,
                sidecar=sidecar,
                origin=action.origin,
            )
            answer = await self._http.post(
                f"{self.observer.hosts[action.host].address}/api/nodes/{action.tenant}",
                content=request.model_dump_json(context=REVEAL),
                headers={**self._headers, "content-type": "application/json"},
                timeout=10.0,
            )
            answer.raise_for_status()
        except (httpx.HTTPError, StoreError) as error:
            self._failed(action, tenant, f"{type(error).__name__}: {error}")

    def _failed(self, action: Start, tenant: Tenant, why: str) -> None:
        if tenant.ordered is None or tenant.ordered.action is not action:
            return
        note_failed(self.history, tenant, tenant.ordered, why, time.monotonic())
        tenant.ordered = None
        tenant.stale = True
        tenant.failed_on.add(action.host)
        tenant.not_before = time.monotonic() + RETRY_AFTER
        self.timeline.note(
            "takeover_failed",
            f"{action.host} could not start {action.tenant}: {why}",
            tenant=action.tenant,
            host=action.host,
        )

    # -- following ------------------------------------------------------------------------------

    def _follow_nodes(self) -> None:
        """Bring what the agents say of their nodes into the tenants' own accounts."""
        for host in self.observer.hosts:
            self._follow_host(host)
        for tenant in self.tenants.values():
            self._expire_order(tenant)
        self.lifecycle.follow()

    def _follow_host(self, name: str) -> None:
        host = self.observer.hosts[name]
        if host.lease.record.state is not LeaseState.LIVE:
            return
        for node in host.nodes:
            tenant = self.tenants.get(node.tenant)
            if tenant is not None:
                self._follow(name, tenant, node)

    def _host_changed(self, name: str) -> None:
        # At once, and not with the next turn, which reads the bucket first: requests are held.
        self._follow_host(name)
        self.gate.look()
        self._wake.set()

    def _wanted(self, name: str) -> None:
        """Requests for a tenant are held."""
        tenant = self.tenants.get(name)
        if tenant is not None and tenant.wanted.asleep:
            self._act(self.lifecycle.wake_soon(name, "a request"))

    def _follow(self, host: str, tenant: Tenant, node: NodeStatus) -> None:
        known = tenant.node
        # One that ended before it claimed anything says nothing about the tenant.
        if node.epoch and (known is None or node.epoch >= known.epoch):
            self._note_node(host, tenant, node)
            tenant.note_rest(node, time.monotonic())
        order = tenant.ordered
        if order is None or order.action.host != host or node.incarnation in order.before:
            return
        if node.state in ENDED:
            self._failed(order.action, tenant, node.detail or node.state)
        elif node.state is NodeState.ACTIVE and node.serving:
            self._serving(host, tenant, node, order)

    def _note_node(self, host: str, tenant: Tenant, node: NodeStatus) -> None:
        known = tenant.node
        tenant.node = node
        if known is None or known.epoch < node.epoch:
            self.timeline.note(
                "tenant_claimed",
                f"{host} owns {node.tenant} at epoch {node.epoch}",
                tenant=node.tenant,
                host=host,
                epoch=node.epoch,
            )
        if known is None or (known.incarnation, known.state) != (node.incarnation, node.state):
            tenant.stale = True
            if node.state in ENDED:
                why = f": {node.detail}" if node.detail else ""
                self.timeline.note(
                    f"node_{node.state}",
                    f"{node.tenant} on {host} is {node.state}{why}",
                    tenant=node.tenant,
                    host=host,
                )

    def _serving(self, host: str, tenant: Tenant, node: NodeStatus, order: Ordered) -> None:
        tenant.ordered = None
        tenant.stale = True
        tenant.failed_on.clear()
        phases = node.phases
        self.timeline.note(
            "tenant_active",
            f"{node.tenant} runs on {host} at epoch {node.epoch}, {phases.total:.2f} s after its "
            "claim",
            tenant=node.tenant,
            host=host,
            epoch=node.epoch,
            phases=phases.model_dump(),
        )
        recovery = recovery_of(order, node, time.time())
        note_started(self.history, tenant, order, node, recovery, time.monotonic())
        if recovery is None:
            return
        tenant.recoveries.append(recovery)
        self.timeline.note(
            "tenant_recovered",
            f"{node.tenant} is back, {recovery.rto_seconds:.1f} s after {recovery.from_host} was "
            f"last seen alive and {recovery.split.after_detection:.2f} s after that was known",
            tenant=node.tenant,
            host=host,
            recovery=recovery.model_dump(),
        )

    def _expire_order(self, tenant: Tenant) -> None:
        order = tenant.ordered
        if order is None:
            return
        host = self.observer.hosts.get(order.action.host)
        if host is not None and host.lease.record.state is LeaseState.FENCED:
            # Whoever fenced it: its last list of nodes stays as it was, and would end nothing.
            self._failed(order.action, tenant, "the lease of the host has ended")
            return
        if time.monotonic() - order.at < ORDER_TIMEOUT:
            return
        there = host is not None and any(
            node.tenant == order.action.tenant and node.state not in ENDED for node in host.nodes
        )
        if not there:
            self._failed(order.action, tenant, "the order left no trace")

    def say_once(self, text: str) -> None:
        """Tell the operator, unless it was told before."""
        if text not in self._said:
            self._said.add(text)
            print(text, flush=True)
