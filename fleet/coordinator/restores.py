"""A tenant taken back to a past state, in place: rehearsed, recorded, then carried out.

Only the record in the bucket counts. Whatever dies after it was written, `decide` sees to the rest:
the node is stopped in the planned way, so that all of the newest state stays to go back to, and the
next epoch is made of the past one. Before it is written, nothing has changed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx
from pydantic import ValidationError

from backup import keys, lineage, records
from backup.errors import StoreError
from backup.ownership import Origin, OwnerRecord, OwnerState, TenantRecord
from backup.settings import REVEAL
from backup.store import ObjectStore
from fleet.agent.drilling import Rehearsal, RehearsalRequest
from fleet.coordinator.account import TenantExists
from fleet.coordinator.asking import asked as asker
from fleet.issuer import CredentialIssuer
from fleet.views import ErrorBody, ForkWanted, RestoreView, RestoreWanted

if TYPE_CHECKING:
    from fleet.coordinator.account import Tenant
    from fleet.coordinator.coordinator import Coordinator

TIMEOUT = 900.0
"""Seconds for one rehearsal."""
LOOK_EVERY = 0.1


class RestoreRunning(Exception):
    """There is one under way for this tenant."""


class _Stop(Exception):
    """The end of a restore before anything was changed."""

    def __init__(self, type: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.problem = ErrorBody(type=type, message=message, hint=hint)


class Restores:
    """The restores in place that this coordinator was asked for, one at a time for each tenant."""

    def __init__(
        self,
        fleet: Coordinator,
        store: ObjectStore,
        issuer: CredentialIssuer,
        http: httpx.AsyncClient,
        token: str,
    ) -> None:
        self._fleet = fleet
        self._store = store
        self._issuer = issuer
        self._http = http
        self._headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        self._views: dict[str, RestoreView] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def look(self, name: str) -> RestoreView | None:
        """The newest restore of a tenant, as far as it is; by its records where this coordinator
        did not begin it."""
        view = self._views.get(name)
        tenant = self._fleet.tenants.get(name)
        if view is None and tenant is not None and tenant.wanted.restore is not None:
            view = _of(name, tenant.wanted.restore)
        return view if view is None or tenant is None else followed(view, tenant)

    def fork(self, source: str, asked: ForkWanted) -> RestoreView:
        """Begin to fork a tenant into a new one.

        Raises:
            BadTenantName: the name is not allowed.
            RestoreRunning: it is being forked to that name already.
            TenantExists: there is one of that name.
        """
        name = keys.check_tenant(asked.name)
        if name in self._fleet.tenants:
            raise TenantExists(f"there is a tenant {name!r} already")
        running = self._views.get(name)
        if running is not None and not running.over:
            raise RestoreRunning(f"{name} is being forked already")
        view = self._views[name] = RestoreView(tenant=name, source=source)
        self._tasks[name] = asyncio.create_task(self._run_fork(view, source, asked))
        return view

    def running(self) -> list[RestoreView]:
        """Those that this coordinator has begun and that are not over, forks as well."""
        return [view for view in self._views.values() if not view.over]

    def begin(self, name: str, asked: RestoreWanted) -> RestoreView:
        """Begin one. Raises `RestoreRunning`."""
        running = self.look(name)
        if running is not None and not running.over:
            raise RestoreRunning(f"{name} is being restored already")
        view = self._views[name] = RestoreView(tenant=name, check=asked.check)
        self._tasks[name] = asyncio.create_task(self._run(view, asked))
        return view

    async def close(self) -> None:
        """Stop following them. What is recorded is carried out all the same."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _run(self, view: RestoreView, asked: RestoreWanted) -> None:
        async with self._told(view):
            found = await self._rehearse(view.tenant, await self._request(view.tenant, asked))
            note(view, found)
            if asked.check:
                view.state = "done"
            else:
                await self._want(view, found)

    async def _run_fork(self, view: RestoreView, source: str, asked: ForkWanted) -> None:
        async with self._told(view):
            sidecar = await self._fleet.tenants[source].issued(self._issuer)
            found = await self._rehearse(
                source, RehearsalRequest(sidecar=sidecar, at=asked.at, bookmark=asked.bookmark)
            )
            note(view, found)
            try:
                await self._fleet.create_fork(view.tenant, source, origin_of(source, found, 1))
            except TenantExists as error:
                hint = "Choose another name; nothing was changed."
                raise _Stop("tenant_exists", str(error), hint) from error
            view.number, view.state = 1, "restoring"

    @asynccontextmanager
    async def _told(self, view: RestoreView) -> AsyncIterator[None]:
        """Whatever ends it before it is recorded is in its view."""
        began_at = time.time()
        try:
            yield
        except _Stop as stop:
            view.state, view.problem = "refused", stop.problem
        except Exception as error:  # whatever it is, somebody waits for the end
            view.state = "failed"
            view.problem = ErrorBody(
                type="restore_failed",
                message=f"It was not begun: {type(error).__name__}: {error}",
                hint="Nothing was changed; the same command can be given again.",
            )
        if view.problem is not None and not view.check:
            self._fleet.history.note(
                "fork" if view.source else "restore",
                tenant=view.tenant,
                began_at=began_at,
                steps={"rehearse": time.time() - began_at},
                outcome="refused" if view.state == "refused" else "failed",
                error=view.problem.message,
                data={"source": view.source} if view.source else {},
            )

    async def _request(self, name: str, asked: RestoreWanted) -> RehearsalRequest:
        sidecar = await self._fleet.tenants[name].issued(self._issuer)
        epoch = await asyncio.to_thread(self._before_restore, name) if asked.undo else None
        return RehearsalRequest(sidecar=sidecar, at=asked.at, bookmark=asked.bookmark, epoch=epoch)

    def _before_restore(self, name: str) -> int:
        """The epoch that the tenant's last restore in place has left."""
        owner = records.read(self._store, keys.owner(name), OwnerRecord)
        for epoch in lineage.read(self._store, owner.record) if owner else ():
            if epoch.origin is not None and epoch.parent is not None:
                return epoch.parent
        raise _Stop(
            "nothing_to_undo",
            f"{name} was never restored in place; nothing was changed.",
            "To go back to a time or a bookmark, use --at or --bookmark.",
        )

    async def _rehearse(self, name: str, request: RehearsalRequest) -> Rehearsal:
        """Have a host restore the state somewhere harmless: what cannot be restored must not stop
        a tenant. Raises `_Stop`."""
        chosen = self._fleet.observer.quiet_host(name)
        if chosen is None:
            raise _Stop("no_host", "No host is fit for it now.", "See `litefleet host list`.")
        try:
            answer = await self._http.post(
                f"{chosen.address}/api/rehearsals/{name}",
                content=request.model_dump_json(context=REVEAL),
                headers=self._headers,
                timeout=TIMEOUT,
            )
            if answer.is_success:
                return Rehearsal.model_validate_json(answer.content)
            problem = answer.json()["error"]
            kind, words = str(problem["type"]), str(problem["message"])
        except (httpx.HTTPError, ValidationError, ValueError, KeyError, TypeError) as error:
            kind, words = "no_rehearsal", f"{type(error).__name__}: {error}"
        raise _Stop(
            kind,
            f"{name} cannot be restored to that: {words}",
            "Nothing was changed. Choose another moment; `litefleet restore --dry-run` and "
            "`litefleet verify` tell what the bucket holds.",
        )

    async def _want(self, view: RestoreView, found: Rehearsal) -> None:
        """Record the restore in the bucket: from here on it is carried out."""
        name, key = view.tenant, keys.wanted(view.tenant)

        def restored(now: TenantRecord | None) -> TenantRecord:
            if now is None:
                raise StoreError(f"{key} is gone")
            number = now.restore.number + 1 if now.restore else 1
            origin = origin_of(name, found, number)
            return now.model_copy(update=now.succeeded_by(restore=origin))

        wanted = await asyncio.to_thread(records.change, self._store, key, TenantRecord, restored)
        assert wanted is not None
        origin = wanted.restore
        assert origin is not None
        tenant = self._fleet.tenants[name]
        view.left = tenant.newest_epoch
        tenant.wanted, tenant.asked = wanted, asker()
        view.number, view.state = origin.number, "stopping"
        self._fleet.timeline.note(
            "restore_wanted", f"{name} shall go back to {origin.bookmark}", tenant=name
        )
        self._fleet.wake()


def origin_of(tenant: str, found: Rehearsal, number: int) -> Origin:
    """The state that was rehearsed, as records name it."""
    return Origin(
        tenant=tenant,
        lineage=found.lineage,
        epoch=found.epoch,
        txid=found.txid,
        sequence=found.sequence,
        number=number,
    )


def _of(name: str, origin: Origin) -> RestoreView:
    forked = origin.tenant != name
    return RestoreView(
        tenant=name,
        source=origin.tenant if forked else None,
        state="restoring" if forked else "stopping",
        number=origin.number,
        epoch=origin.epoch,
        txid=origin.txid,
        bookmark=origin.bookmark,
    )


def note(view: RestoreView, found: Rehearsal) -> None:
    """Tell a view what was found."""
    view.epoch, view.txid, view.bookmark = (
        found.epoch,
        found.txid,
        f"{found.epoch}:{found.sequence}",
    )
    view.at, view.committed_at = found.at, found.committed_at
    view.executions, view.bytes = found.executions, found.bytes
    view.rehearsal_seconds = found.seconds


def followed(view: RestoreView, tenant: Tenant) -> RestoreView:
    """A recorded restore as far as the tenant's records show it."""
    owner = tenant.owner.record if tenant.owner else None
    if view.over or not view.number or owner is None or owner.restored < view.number:
        return view
    origin = owner.origin
    if owner.restore_failure and owner.restored == view.number:
        view.state = "failed"
        now = "" if view.source else "; it goes on from where it was before"
        view.problem = ErrorBody(
            type="not_restored",
            message=f"{view.tenant} was not restored: {owner.restore_failure}{now}",
            hint=f"Look what can be restored with `litefleet restore {view.source or view.tenant} "
            "--dry-run`, then try again.",
        )
    elif origin is None or origin.number != view.number:
        # It was carried out, and the tenant has moved on since.
        view.state = "done"
    elif owner.state is OwnerState.RESTORING:
        view.state = "restoring"
    else:
        node = tenant.node
        serves = node is not None and node.epoch == owner.epoch and node.serving
        view.left = owner.parent.epoch if owner.parent else None
        view.new_epoch = owner.epoch
        view.state = "done" if serves or owner.state is not OwnerState.ACTIVE else "restoring"
    return view
