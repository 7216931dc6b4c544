"""Tenants that are moved, put to sleep and woken.

Only what the bucket records counts: each of these writes it into the tenant's wanted state, and
`decide` sees to the rest, whichever coordinator lives by then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import httpx

from backup import keys, records
from backup.errors import StoreError
from backup.ownership import Move, OwnerState, TenantRecord
from backup.store import ObjectStore
from fleet.coordinator.asking import asked
from fleet.coordinator.needs import resting
from fleet.coordinator.picture import Drain, Wake
from fleet.views import MoveView

if TYPE_CHECKING:
    from fleet.coordinator.account import Tenant
    from fleet.coordinator.coordinator import Coordinator

TELL_AGAIN = 5.0
"""Seconds before a node that has not stopped is told again."""


class NotMovable(Exception):
    """The tenant cannot be moved like this; the message says why, ``hint`` what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class Lifecycle:
    """Where tenants run, and whether they run at all, as operators and timers want it."""

    def __init__(
        self, fleet: Coordinator, store: ObjectStore, http: httpx.AsyncClient, token: str
    ) -> None:
        self._fleet = fleet
        self._store = store
        self._http = http
        self._headers = {"authorization": f"Bearer {token}"}
        self._waking: dict[str, asyncio.Task[None]] = {}
        self._falling: set[str] = set()
        self._moves: dict[str, _Moving] = {}

    # -- what is wanted --------------------------------------------------------------------------

    async def sleep(self, name: str, why: str = "an operator") -> None:
        """Have a tenant stop, with all of its log in the bucket, until somebody or a timer wakes
        it. Raises `StoreError`."""
        if await self._want(name, lambda now: None if now.asleep else {"asleep": True}):
            self._fleet.timeline.note(
                "sleep_wanted", f"{name} shall sleep ({why})", tenant=name, cause=why
            )
            self._fleet.history.note("sleep", tenant=name, data={"cause": why})

    async def sleep_soon(self, name: str, why: str) -> None:
        """As `sleep`, for what is decided again and again: once at a time, and a store that does
        not answer is told to nobody."""
        if name in self._falling:
            return
        self._falling.add(name)
        try:
            await self.sleep(name, why)
        except StoreError as error:
            self._fleet.say_once(f"{name} could not be put to sleep: {error}")
        finally:
            self._falling.discard(name)

    async def wake(self, name: str, why: str = "an operator") -> None:
        """Have a tenant that sleeps run again. Raises `StoreError`."""
        if await self._want(name, lambda now: {"asleep": False} if now.asleep else None):
            self._fleet.timeline.note(
                "wake_wanted", f"{name} shall wake ({why})", tenant=name, cause=why
            )
            self._fleet.history.note("wake", tenant=name, data={"cause": why})

    async def woken(self, action: Wake) -> None:
        """Wake a tenant whose time has come. One that is being woken is left alone."""
        await self.wake_soon(action.tenant, action.cause)

    async def wake_soon(self, name: str, why: str) -> None:
        """As `wake`, once for all who ask at the same time. A store that does not answer is told
        to nobody: whoever needs the tenant asks again."""
        task = self._waking.get(name)
        if task is None:
            task = self._waking[name] = asyncio.create_task(self._try_to_wake(name, why))
            task.add_done_callback(lambda _: self._waking.pop(name, None))
        await asyncio.shield(task)

    async def _try_to_wake(self, name: str, why: str) -> None:
        try:
            await self.wake(name, why)
        except StoreError as error:
            self._fleet.say_once(f"{name} could not be woken: {error}")

    async def move(self, name: str, host: str = "") -> MoveView:
        """Have a tenant run on ``host``, or on any other than now.

        Raises:
            NotMovable: it does not run, or that host cannot take it.
            StoreError: nothing is known of the outcome; asking again does no harm.
        """
        tenant = self._fleet.tenants[name]
        owner = tenant.owner.record if tenant.owner is not None else None
        if tenant.wanted.asleep:
            raise NotMovable(f"{name} sleeps and is on no host", f"`litefleet tenant wake {name}`")
        if owner is None or owner.state is not OwnerState.ACTIVE:
            state = owner.state.value if owner is not None else "pending"
            raise NotMovable(f"{name} is {state}", "wait until it is active")
        open_hosts = self._open_hosts()
        if host and host not in self._fleet.observer.hosts:
            raise NotMovable(f"there is no host {host!r}", "`litefleet host list` names them")
        if host and host != owner.host and host not in open_hosts:
            raise NotMovable(f"{host} takes no tenants now", "`litefleet host list` tells why")
        if not host and not open_hosts - {owner.host}:
            raise NotMovable(f"no host but {owner.host} takes tenants now", "add one")
        if host == owner.host:
            return MoveView(tenant=name, state="done", from_host=host, to_host=host)
        move = Move(epoch=owner.epoch, host=host, asked_at=time.time())
        tenant.asked = asked()
        await self._want(name, lambda now: {"move": move})
        self._moves[name] = _Moving(move, owner.host)
        self._fleet.timeline.note(
            "move_wanted",
            f"{name} shall move from {owner.host}{f' to {host}' if host else ''}",
            tenant=name,
            host=owner.host,
        )
        return self.look(name)

    def look(self, name: str) -> MoveView:
        """How far the last move of a tenant is; one that was never moved has state ``none``."""
        tenant = self._fleet.tenants[name]
        move = tenant.wanted.move
        if move is None:
            return MoveView(tenant=name, state="none")
        known = self._moves.get(name)
        if known is None or known.move != move:
            known = self._moves[name] = _Moving(move, "")
        return known.view(name, tenant)

    def follow(self) -> None:
        """Note when tenants that are being moved stop, and when they serve again."""
        for name, known in self._moves.items():
            tenant = self._fleet.tenants.get(name)
            if tenant is not None and tenant.node is not None:
                known.follow(tenant.node.epoch, tenant.node.serving, time.time())

    def _open_hosts(self) -> set[str]:
        hosts = self._fleet.seen_hosts()
        return {name for name, host in hosts.items() if host.open}

    async def configure(self, name: str, change: dict[str, object]) -> None:
        """Change what is wanted of a tenant apart from where it runs, in place: fields of
        `TenantRecord`. Raises `StoreError`."""

        def changing(now: TenantRecord) -> dict[str, object] | None:
            same = all(getattr(now, field) == value for field, value in change.items())
            return None if same else change

        if await self._want(name, changing):
            what = ", ".join(sorted(change))
            self._fleet.timeline.note("tenant_changed", f"{name}: {what} changed", tenant=name)
            self._fleet.history.note("configure", tenant=name, data=dict.fromkeys(change, True))

    async def _want(
        self, name: str, change: Callable[[TenantRecord], dict[str, object] | None]
    ) -> bool:
        key, changed = keys.wanted(name), False

        def changing(now: TenantRecord | None) -> TenantRecord | None:
            nonlocal changed
            if now is None:
                raise StoreError(f"{key} is gone")
            wanted = change(now)
            changed = wanted is not None
            return None if wanted is None else now.model_copy(update=now.succeeded_by(**wanted))

        found = await asyncio.to_thread(records.change, self._store, key, TenantRecord, changing)
        assert found is not None
        self._fleet.tenants[name].wanted = found
        self._fleet.wake()
        return changed

    # -- carrying it out -------------------------------------------------------------------------

    async def order(self, action: Drain) -> None:
        """Have a node stopped in the planned way. One that does not hear of it is told again."""
        tenant = self._fleet.tenants[action.tenant]
        tenant.drain_after = time.monotonic() + TELL_AGAIN
        address = self._fleet.observer.hosts[action.host].address
        try:
            answer = await self._http.post(
                f"{address}/api/nodes/{action.tenant}/drain", headers=self._headers, timeout=10.0
            )
            answer.raise_for_status()
        except httpx.HTTPError:
            return
        self._fleet.timeline.note(
            "drain_ordered",
            f"{action.host} stops {action.tenant} ({action.cause.replace('_', ' ')})",
            tenant=action.tenant,
            host=action.host,
            cause=action.cause,
        )


class _Moving:
    """One move, as this coordinator sees it happen."""

    def __init__(self, move: Move, source: str) -> None:
        self.move = move
        self.source = source
        self._stopped_at: float | None = None
        self._back_at: float | None = None

    def follow(self, epoch: int, serving: bool, now: float) -> None:
        if self._stopped_at is None and not (serving and epoch <= self.move.epoch):
            self._stopped_at = now
        if self._back_at is None and serving and epoch > self.move.epoch:
            self._back_at = now

    def view(self, name: str, tenant: Tenant) -> MoveView:
        owner = tenant.owner.record if tenant.owner is not None else None
        gone = None
        if self._stopped_at is not None and self._back_at is not None:
            gone = self._back_at - self._stopped_at
        node = tenant.node
        back = node is not None and node.serving and node.epoch > self.move.epoch
        stays = node is not None and node.serving and node.host == self.move.host
        return MoveView(
            tenant=name,
            state="done" if back or stays else "moving",
            from_host=self.source or None,
            to_host=node.host if node is not None and (back or stays) else None,
            wanted_host=self.move.host or None,
            asked_at=self.move.asked_at,
            unavailable_seconds=gone,
            epoch=owner.epoch if owner is not None else 0,
        )


def is_resting(tenant: Tenant) -> bool:
    """Whether a tenant sleeps and needs nothing: no process, and no look at its records."""
    return not tenant.stale and resting(
        tenant.wanted, tenant.owner.record if tenant.owner else None
    )
