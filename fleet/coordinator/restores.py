"""A tenant taken back to a past state, in place: rehearsed, recorded, then carried out.

Only the record in the bucket counts. Whatever dies after it was written, `decide` sees to the rest:
the node is stopped in the planned way, so that all of the newest state stays to go back to, and the
next epoch is made of the past one. Before it is written, nothing has changed.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from backup import keys, lineage, records
from backup.errors import StoreError
from backup.ownership import Origin, OwnerRecord, OwnerState, TenantRecord
from backup.settings import REVEAL
from backup.store import ObjectStore
from fleet.agent.drilling import Rehearsal, RehearsalRequest
from fleet.coordinator.account import TenantExists
from fleet.coordinator.asking import asked as asker
from fleet.coordinator.history import NotRecorded
from fleet.coordinator.own_log import OwnLog
from fleet.issuer import CredentialIssuer
from fleet.views import ErrorBody, ForkWanted, RestoreView, RestoreWanted

if TYPE_CHECKING:
    from fleet.coordinator.account import Tenant
    from fleet.coordinator.coordinator import Coordinator

TIMEOUT = 900.0
"""Seconds for one rehearsal."""
FOLLOW_FOR = 10.0
"""Seconds for which one step follows a restore."""
LOOK_EVERY = 0.1


class RestoreRunning(Exception):
    """There is one under way for this tenant."""


class _Stop(Exception):
    """The end of a restore before anything was changed."""

    def __init__(self, type: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.problem = ErrorBody(type=type, message=message, hint=hint)


class StateAsked(BaseModel):
    """The past state that is asked for; see `RestoreWanted` and `ForkWanted`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    at: float | None = None
    bookmark: str | None = None
    undo: bool = False


class RestoreOperation(BaseModel):
    """A restore in place, or with ``source`` a fork of that, as the coordinator's log has it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    tenant: str
    source: str | None = None
    asked: StateAsked
    by: str
    why: str = ""

    @classmethod
    def of(cls, view: RestoreView, asked: RestoreWanted | ForkWanted) -> RestoreOperation:
        """A new one, of whoever sent this request."""
        who, kind = asker(), "fork" if view.source else "restore"
        return cls(
            id=f"{kind}/{view.tenant}/{secrets.token_hex(8)}",
            tenant=view.tenant,
            source=view.source,
            asked=StateAsked.model_validate(asked.model_dump()),
            by=who.by,
            why=who.why,
        )


Told = dict[str, Any]
"""What a step says of what it did, as JSON: ``error`` and ``outcome`` where it is the end."""


def _ended(view: RestoreView) -> Told:
    """The end of an operation, if it is one."""
    if view.problem is None:
        return {}
    outcome = "refused" if view.state == "refused" else "failed"
    return {"error": view.problem.message, "outcome": outcome}


class Restores:
    """The restores in place that this coordinator was asked for, one at a time for each tenant."""

    def __init__(
        self,
        fleet: Coordinator,
        store: ObjectStore,
        issuer: CredentialIssuer,
        http: httpx.AsyncClient,
        token: str,
        log: OwnLog | None = None,
    ) -> None:
        """
        Args:
            log: carries them out, over the loss of this coordinator as well; see `own_app`.
        """
        self._log = log
        self._fleet = fleet
        self._store = store
        self._issuer = issuer
        self._http = http
        self._headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        self._views: dict[str, RestoreView] = {}
        self._ids: dict[str, str] = {}
        """Whose view is shown of each tenant."""
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def look(self, name: str) -> RestoreView | None:
        """The newest restore of a tenant, as far as it is; by its records where this coordinator
        did not begin it."""
        view = self._views.get(name)
        tenant = self._fleet.tenants.get(name)
        if view is None and tenant is not None and tenant.wanted.restore is not None:
            view = _of(name, tenant.wanted.restore)
        return view if view is None or tenant is None else followed(view, tenant)

    async def fork(self, source: str, asked: ForkWanted) -> RestoreView:
        """Begin to fork a tenant into a new one.

        Raises:
            BadTenantName: the name is not allowed.
            NotRecorded: the coordinator's log cannot take it up now.
            RestoreRunning: it is being forked to that name already.
            TenantExists: there is one of that name.
        """
        name = keys.check_tenant(asked.name)
        if name in self._fleet.tenants:
            raise TenantExists(f"there is a tenant {name!r} already")
        running = self._views.get(name)
        if running is not None and not running.over:
            raise RestoreRunning(f"{name} is being forked already")
        return await self._begin(RestoreView(tenant=name, source=source), asked)

    def running(self) -> list[RestoreView]:
        """Those that are known here and that are not over, forks as well."""
        return [view for view in self._views.values() if not view.over]

    async def begin(self, name: str, asked: RestoreWanted) -> RestoreView:
        """Begin one. One that is only a check is not carried on by another coordinator.

        Raises:
            NotRecorded: the coordinator's log cannot take it up now.
            RestoreRunning: there is one under way.
        """
        running = self.look(name)
        if running is not None and not running.over:
            raise RestoreRunning(f"{name} is being restored already")
        view = RestoreView(tenant=name, check=asked.check)
        if not asked.check:
            return await self._begin(view, asked)
        operation = RestoreOperation.of(view, asked)
        self._views[name], self._ids[name] = view, operation.id
        self._tasks[name] = asyncio.create_task(self._check(view, operation))
        return view

    async def _begin(self, view: RestoreView, asked: RestoreWanted | ForkWanted) -> RestoreView:
        if self._log is None:
            raise NotRecorded("this coordinator has no log of its own")
        operation = RestoreOperation.of(view, asked)
        self._views[view.tenant], self._ids[view.tenant] = view, operation.id
        try:
            name = operation.id.replace("/", "-")
            input = {"operation": operation.model_dump(mode="json")}
            await self._log.start("restore", name, input)
        except NotRecorded:
            del self._views[view.tenant]
            raise
        return view

    async def close(self) -> None:
        """Stop following them. What was begun is carried out all the same."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    # -- the steps, each of which may be told again, to another coordinator as well ---------------

    async def _check(self, view: RestoreView, operation: RestoreOperation) -> None:
        try:
            if not (await self.rehearse(operation)).get("error"):
                view.state = "done"
        except StoreError as error:
            view.state = "failed"
            view.problem = ErrorBody(type="store_unavailable", message=str(error))

    async def rehearse(self, operation: RestoreOperation) -> Told:
        """Restore the state somewhere harmless. Nothing is changed."""
        view, told = self._view(operation), Told()
        source = operation.source or operation.tenant
        async with self._told(view):
            if source not in self._fleet.tenants:
                raise _Stop("not_found", f"there is no tenant {source!r}", "Nothing was changed.")
            found = await self._rehearse(source, await self._request(source, operation.asked))
            note(view, found)
            origin = origin_of(source, found, 1).model_copy(update={"asked": operation.id})
            told = {"origin": origin.model_dump(mode="json")}
        return told | _ended(view)

    async def want(self, operation: RestoreOperation, given: Told) -> Told:
        """Record in the bucket what is wanted: from here on it is carried out. Told again, it finds
        its own record, and changes nothing."""
        view, told = self._view(operation), Told()
        origin = Origin.model_validate(given["origin"])
        async with self._told(view):
            if operation.source is None:
                await self._want(view, origin)
            else:
                await self._want_fork(view, operation.source, origin)
            told = {"number": view.number, "left": view.left}
        return told | _ended(view)

    async def follow(self, operation: RestoreOperation, given: Told) -> Told:
        """Look how far it is, for a while; ``over`` says whether it has ended."""
        name = operation.tenant
        view = self._view(operation)
        tenant = self._fleet.tenants.get(name)
        if tenant is None:
            view.state = "failed"
            view.problem = ErrorBody(type="not_found", message=f"there is no tenant {name!r}")
            return {"over": True, **_ended(view)}
        view.number, view.left = int(given["number"]), given["left"]
        if view.state == "rehearsing":  # another coordinator has begun it
            view.state = "restoring" if operation.source else "stopping"
        until = time.monotonic() + FOLLOW_FOR
        while not followed(view, tenant).over and time.monotonic() < until:
            await asyncio.sleep(LOOK_EVERY)
        owner = tenant.owner.record if tenant.owner else None
        return {
            "over": view.over,
            **_ended(view),
            "epoch_before": view.left,
            "epoch_after": view.new_epoch or (owner.epoch if owner else None),
            "to_host": owner.host or None if owner else None,
        }

    def _view(self, operation: RestoreOperation) -> RestoreView:
        """What is shown of an operation; made anew where another coordinator has begun it."""
        name, id = operation.tenant, operation.id
        if self._ids.get(name, id) != id:
            return RestoreView(tenant=name, source=operation.source)  # a later one is shown
        self._ids[name] = id
        return self._views.setdefault(name, RestoreView(tenant=name, source=operation.source))

    @asynccontextmanager
    async def _told(self, view: RestoreView) -> AsyncIterator[None]:
        """Whatever ends it before it is recorded is in its view."""
        try:
            yield
        except _Stop as stop:
            view.state, view.problem = "refused", stop.problem
        except StoreError:
            raise  # nothing is known of the outcome: the step is tried again
        except Exception as error:  # whatever it is, somebody waits for the end
            view.state = "failed"
            view.problem = ErrorBody(
                type="restore_failed",
                message=f"It was not begun: {type(error).__name__}: {error}",
                hint="Nothing was changed; the same command can be given again.",
            )

    async def _request(self, name: str, asked: StateAsked) -> RehearsalRequest:
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

    async def _want(self, view: RestoreView, origin: Origin) -> None:
        name, key = view.tenant, keys.wanted(view.tenant)

        def restored(now: TenantRecord | None) -> TenantRecord | None:
            if now is None or now.deletion is not None:
                raise _Stop("not_found", f"{name} was deleted meanwhile", "Nothing was changed.")
            if now.restore is not None and now.restore.asked == origin.asked:
                return None
            number = now.restore.number + 1 if now.restore else 1
            numbered = origin.model_copy(update={"number": number})
            return now.model_copy(update=now.succeeded_by(restore=numbered))

        tenant = self._fleet.tenants.get(name)
        before = tenant.newest_epoch if tenant is not None else None
        wanted = await asyncio.to_thread(records.change, self._store, key, TenantRecord, restored)
        assert wanted is not None
        assert wanted.restore is not None
        view.number, view.state = wanted.restore.number, "stopping"
        if tenant is None:
            return
        owner = tenant.owner.record if tenant.owner is not None else None
        if owner is None or owner.restored < view.number:
            view.left = before
        tenant.wanted = wanted
        self._fleet.timeline.note(
            "restore_wanted", f"{name} shall go back to {wanted.restore.bookmark}", tenant=name
        )
        self._fleet.wake()

    async def _want_fork(self, view: RestoreView, source: str, origin: Origin) -> None:
        try:
            await self._fleet.create_fork(view.tenant, source, origin)
        except TenantExists as error:
            hint = "Choose another name; nothing was changed."
            raise _Stop("tenant_exists", str(error), hint) from error
        except KeyError as error:
            hint = "Nothing was changed."
            raise _Stop("not_found", f"{source} was deleted meanwhile", hint) from error
        view.number, view.state = 1, "restoring"


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
