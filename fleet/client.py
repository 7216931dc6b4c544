"""The fleet's HTTP API as typed calls: `Client` for plain code, `AsyncClient` for asyncio.

Both send the same `Call` values, so a call is described once, as data, and
cannot differ between the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from fleet.addresses import AnyOf, AsyncAnyOf, addresses_of
from fleet.deletion_views import DeletionList, DeletionWanted, ReceiptList, ReceiptView
from fleet.history_views import BY_HEADER, WHY_HEADER, HistoryPage, OperationView
from fleet.problem import Problem
from fleet.remains_views import RemainsList, RemainsView
from fleet.views import (
    CoordinatorList,
    CoordinatorView,
    CopyList,
    CopyView,
    DeletionView,
    DrillsList,
    DrillsView,
    DrillView,
    Durability,
    EpochList,
    ErrorView,
    ExecutionList,
    ExecutionView,
    ForkWanted,
    HoldView,
    HostList,
    HostView,
    LagList,
    LagView,
    MoveView,
    Outcome,
    Page,
    RestoreView,
    RestoreWanted,
    Started,
    TenantList,
    TenantView,
    Timeline,
    TimelineEntry,
    UpgradeView,
    UpgradeWanted,
)

T = TypeVar("T", bound=BaseModel)
T_co = TypeVar("T_co", bound=BaseModel, covariant=True)
Item = TypeVar("Item")

TIMEOUT = httpx.Timeout(60.0, connect=5.0)
"""Seconds. The gateway, which may hold a request first, answers 503 by itself well before this."""

DRILL_TIMEOUT = 900.0
"""Seconds: a drill restores the whole of a tenant's log."""

STREAM_TIMEOUT = 900.0
"""Seconds for a long answer to begin, and for a pause in it."""

PAGE = 500
"""Items asked for at once where an answer comes in pages."""


class FleetError(Problem):
    """The fleet refused a request.

    `status` is the HTTP status (0 when there was no answer), `type` the
    machine-readable kind, `hint` what to do next.
    """

    def __init__(self, type: str, message: str, hint: str | None = None, status: int = 0) -> None:
        super().__init__(type, message, hint)
        self.status = status


class FleetUnreachable(FleetError):
    """Nothing answered at the fleet's address, so what became of the request is unknown."""


class FleetUnavailable(FleetError):
    """A tenant cannot answer just now (503): it moves, or durability was not proven in time.

    The request may or may not have taken effect; repeat it with the same id
    after `retry_after` seconds.
    """

    def __init__(self, type: str, message: str, hint: str | None, retry_after: float) -> None:
        super().__init__(type, message, hint, status=503)
        self.retry_after = retry_after


class FleetDenied(FleetError):
    """The token is missing or wrong (401 or 403)."""


class FleetNotFound(FleetError):
    """There is no such tenant, execution or workflow (404)."""


class FleetConflict(FleetError):
    """The name or id is taken by something else (409)."""


class Empty(BaseModel):
    """An answer in which nothing needs to be read."""


@dataclass(frozen=True)
class Call(Generic[T_co]):
    """One request and the model of its answer."""

    method: str
    path: str
    answer: type[T_co]
    body: Mapping[str, Any] | None = None
    query: Mapping[str, str | int | float] = field(default_factory=dict)
    timeout: float | None = None


def create_tenant(
    name: str, app: str, durability: Durability, env: Mapping[str, str] | None = None
) -> Call[TenantView]:
    body = {"name": name, "app": app, "durability": durability, "env": dict(env or {})}
    return Call("POST", "/api/tenants", TenantView, body)


def upgrade_tenant(name: str, wanted: UpgradeWanted) -> Call[UpgradeView]:
    path = f"/api/tenants/{quote(name, safe='')}/upgrade"
    return Call("POST", path, UpgradeView, wanted.model_dump(mode="json"))


def show_upgrade(name: str) -> Call[UpgradeView]:
    return Call("GET", f"/api/tenants/{quote(name, safe='')}/upgrade", UpgradeView)


def restore_tenant(name: str, wanted: RestoreWanted) -> Call[RestoreView]:
    path = f"/api/tenants/{quote(name, safe='')}/restore"
    return Call("POST", path, RestoreView, wanted.model_dump(mode="json"))


def show_restore(name: str) -> Call[RestoreView]:
    return Call("GET", f"/api/tenants/{quote(name, safe='')}/restore", RestoreView)


def fork_tenant(name: str, wanted: ForkWanted) -> Call[RestoreView]:
    path = f"/api/tenants/{quote(name, safe='')}/forks"
    return Call("POST", path, RestoreView, wanted.model_dump(mode="json"))


def show_fork(name: str, fork: str) -> Call[RestoreView]:
    path = f"/api/tenants/{quote(name, safe='')}/forks/{quote(fork, safe='')}"
    return Call("GET", path, RestoreView)


def list_epochs(name: str) -> Call[EpochList]:
    path = f"/api/tenants/{quote(name, safe='')}/epochs"
    return Call("GET", path, EpochList, timeout=STREAM_TIMEOUT)


def hold_tenant(name: str, hold: bool) -> Call[HoldView]:
    path = f"/api/tenants/{quote(name, safe='')}/hold"
    return Call("PUT" if hold else "DELETE", path, HoldView)


def _deletion_path(name: str) -> str:
    return f"/api/tenants/{quote(name, safe='')}/deletion"


def delete_tenant(name: str, wanted: DeletionWanted) -> Call[DeletionView]:
    return Call("POST", _deletion_path(name), DeletionView, wanted.model_dump(mode="json"))


def undelete_tenant(name: str) -> Call[Empty]:
    return Call("DELETE", _deletion_path(name), Empty)


def show_deletion(name: str) -> Call[DeletionView]:
    return Call("GET", _deletion_path(name), DeletionView)


def list_deletions(after: str | None = None) -> Call[DeletionList]:
    return Call("GET", "/api/deletions", DeletionList, query=_page(after))


def list_receipts(name: str) -> Call[ReceiptList]:
    return Call("GET", f"/api/tenants/{quote(name, safe='')}/receipts", ReceiptList)


def list_remains(host: str) -> Call[RemainsList]:
    path = f"/api/hosts/{quote(host, safe='')}/remains"
    return Call("GET", path, RemainsList, timeout=STREAM_TIMEOUT)


def show_tenant(name: str) -> Call[TenantView]:
    return Call("GET", f"/api/tenants/{quote(name, safe='')}", TenantView)


def change_tenant(name: str, change: Mapping[str, Any]) -> Call[TenantView]:
    return Call("PATCH", f"/api/tenants/{quote(name, safe='')}", TenantView, change)


def sleep_tenant(name: str) -> Call[TenantView]:
    return Call("POST", f"/api/tenants/{quote(name, safe='')}/sleep", TenantView)


def wake_tenant(name: str) -> Call[TenantView]:
    return Call("POST", f"/api/tenants/{quote(name, safe='')}/wake", TenantView)


def move_tenant(name: str, host: str | None) -> Call[MoveView]:
    path = f"/api/tenants/{quote(name, safe='')}/move"
    return Call("POST", path, MoveView, {"host": host})


def show_move(name: str) -> Call[MoveView]:
    return Call("GET", f"/api/tenants/{quote(name, safe='')}/move", MoveView)


def show_host(name: str) -> Call[HostView]:
    return Call("GET", f"/api/hosts/{quote(name, safe='')}", HostView)


def cordon_host(name: str, drain: bool, why: str) -> Call[HostView]:
    path = f"/api/hosts/{quote(name, safe='')}/cordon"
    return Call("PUT", path, HostView, {"drain": drain, "why": why})


def uncordon_host(name: str) -> Call[HostView]:
    return Call("DELETE", f"/api/hosts/{quote(name, safe='')}/cordon", HostView)


def list_tenants(after: str | None = None) -> Call[TenantList]:
    return Call("GET", "/api/tenants", TenantList, query=_page(after))


def list_hosts(after: str | None = None) -> Call[HostList]:
    return Call("GET", "/api/hosts", HostList, query=_page(after))


def list_lag(after: str | None = None) -> Call[LagList]:
    return Call("GET", "/api/lag", LagList, query=_page(after))


def read_timeline(after: int = 0) -> Call[Timeline]:
    return Call("GET", "/api/timeline", Timeline, query={"after": after})


def read_history(
    tenant: str | None = None,
    kind: str | None = None,
    since: float | None = None,
    after: int = 0,
    limit: int = PAGE,
    newest: bool = False,
) -> Call[HistoryPage]:
    given = {"tenant": tenant, "kind": kind, "since": since}
    query: dict[str, str | int | float] = {k: v for k, v in given.items() if v is not None}
    query |= {"after": after, "limit": limit, "newest": newest}
    return Call("GET", "/api/history", HistoryPage, query=query)


def list_coordinators() -> Call[CoordinatorList]:
    return Call("GET", "/api/coordinators", CoordinatorList)


def resume_fleet() -> Call[Empty]:
    return Call("POST", "/api/resume", Empty)


def drill_tenant(name: str) -> Call[DrillView]:
    path = f"/api/tenants/{quote(name, safe='')}/drill"
    return Call("POST", path, DrillView, timeout=DRILL_TIMEOUT)


def list_drills() -> Call[DrillsList]:
    return Call("GET", "/api/drills", DrillsList)


def _copies_path(name: str) -> str:
    return f"/api/tenants/{quote(name, safe='')}/copies"


def copy_tenant(name: str) -> Call[CopyView]:
    return Call("POST", _copies_path(name), CopyView, timeout=DRILL_TIMEOUT)


def list_copies(name: str) -> Call[CopyList]:
    return Call("GET", _copies_path(name), CopyList)


def start_execution(
    tenant: str, workflow: str, id: str | None, input: Mapping[str, Any], durable: bool
) -> Call[Started]:
    body: dict[str, Any] = {"workflow": workflow, "input": dict(input)}
    if id is not None:
        body["id"] = id
    body["ack"] = "durable" if durable else "async"
    return Call("POST", f"{_tenant_path(tenant)}/executions", Started, body)


def list_executions(
    tenant: str, status: str | None = None, after: str | None = None
) -> Call[ExecutionList]:
    query = _page(after)
    if status is not None:
        query["status"] = status
    return Call("GET", f"{_tenant_path(tenant)}/executions", ExecutionList, query=query)


def read_result(tenant: str, id: str, wait: float = 0.0) -> Call[Outcome]:
    """`wait`: how many seconds the engine may hold the request for the result to come."""
    path = f"{_tenant_path(tenant)}/executions/{quote(id, safe='')}/result"
    return Call("GET", path, Outcome, query={"wait": wait}, timeout=wait + 30.0)


def _tenant_path(tenant: str) -> str:
    return f"/{quote(tenant, safe='')}"


def _page(after: str | None) -> dict[str, str | int | float]:
    return {"limit": PAGE} if after is None else {"limit": PAGE, "after": after}


def read_answer(call: Call[T], response: httpx.Response) -> T:
    """The model in a response. Raises FleetError (or one of its kinds) for anything else."""
    if response.is_success:
        try:
            return call.answer.model_validate_json(response.content or b"{}")
        except ValidationError as error:
            raise FleetError(
                "unexpected_answer",
                f"The answer to {call.method} {call.path} is not what this version expects: "
                f"{error.error_count()} fields do not fit.",
                "Check that the address is a litefleet coordinator and that both versions agree "
                "(litefleet --version).",
                response.status_code,
            ) from error
    raise _error_of(call, response)


def _error_of(call: Call[Any], response: httpx.Response) -> FleetError:
    status = response.status_code
    try:
        body = ErrorView.model_validate_json(response.content).error
        kind, message, hint = body.type, body.message, body.hint
    except ValidationError:
        kind = "http_error"
        message = f"{call.method} {call.path} was answered with status {status}."
        hint = None
    if status == 503:
        return FleetUnavailable(kind, message, hint, _retry_after(response))
    if status in (401, 403):
        return FleetDenied(kind, message, hint or "Check the token (LITEFLEET_TOKEN).", status)
    if status == 404:
        return FleetNotFound(kind, message, hint, status)
    if status == 409:
        return FleetConflict(kind, message, hint, status)
    return FleetError(kind, message, hint, status)


def _retry_after(response: httpx.Response) -> float:
    try:
        return max(0.0, float(response.headers.get("retry-after", "1")))
    except ValueError:
        return 1.0


def _unreachable(address: str, error: Exception) -> FleetUnreachable:
    return FleetUnreachable(
        "unreachable",
        f"No answer at {address} ({type(error).__name__}).",
        "Is it running? `litefleet up` starts a fleet and `litefleet dev` an engine; "
        "LITEFLEET_ADDRESS or LITEFLEET_URL points to another.",
    )


def _request_arguments(call: Call[Any]) -> dict[str, Any]:
    arguments: dict[str, Any] = {"params": dict(call.query)}
    if call.body is not None:
        arguments["json"] = dict(call.body)
    if call.timeout is not None:
        arguments["timeout"] = httpx.Timeout(call.timeout, connect=5.0)
    return arguments


def _headers(token: str | None, by: str, why: str) -> dict[str, str]:
    given = {BY_HEADER: quote(by, safe="@"), WHY_HEADER: quote(why, safe="")}
    if token is not None:
        given["authorization"] = f"Bearer {token}"
    return {name: value for name, value in given.items() if value}


class Client:
    """The fleet's API for plain code. Close it, or use it as a context manager.

    Without a `token` it can speak to one that asks for none, such as a developer's engine.
    """

    def __init__(
        self,
        address: str,
        token: str | None,
        transport: httpx.BaseTransport | None = None,
        *,
        by: str = "",
        why: str = "",
    ) -> None:
        """`address` may be several, with commas between them: the fleet's coordinators. `by` and
        `why`: who asks, and the reason, for the fleet's history."""
        addresses = addresses_of(address)
        self.address = ",".join(addresses)
        if len(addresses) > 1:
            transport = AnyOf(addresses, transport)
        self._http = httpx.Client(
            base_url=addresses[0],
            headers=_headers(token, by, why),
            timeout=TIMEOUT,
            transport=transport,
            trust_env=False,
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def send(self, call: Call[T]) -> T:
        """Send one call. Raises FleetError."""
        try:
            response = self._http.request(call.method, call.path, **_request_arguments(call))
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise _unreachable(self.address, error) from error
        return read_answer(call, response)

    def healthy(self) -> bool:
        """Whether the coordinator answers at all."""
        try:
            return self._http.get("/healthz", timeout=2.0).is_success
        except httpx.HTTPError:
            return False

    def _all(self, ask: Callable[[str | None], Call[Page[Item]]]) -> list[Item]:
        """Every item, however many pages they are on."""
        page = self.send(ask(None))
        items = page.items
        while page.next:
            page = self.send(ask(page.next))
            items += page.items
        return items

    def create_tenant(
        self,
        name: str,
        app: str,
        durability: Durability = "async",
        env: Mapping[str, str] | None = None,
    ) -> TenantView:
        return self.send(create_tenant(name, app, durability, env))

    def upgrade_tenant(self, name: str, wanted: UpgradeWanted) -> UpgradeView:
        """Begin an upgrade; `upgrade` tells how far it is."""
        return self.send(upgrade_tenant(name, wanted))

    def upgrade(self, name: str) -> UpgradeView:
        return self.send(show_upgrade(name))

    def restore_tenant(self, name: str, wanted: RestoreWanted) -> RestoreView:
        """Begin a restore in place; `restore` tells how far it is."""
        return self.send(restore_tenant(name, wanted))

    def restore(self, name: str) -> RestoreView:
        return self.send(show_restore(name))

    @contextmanager
    def stream(self, path: str) -> Iterator[httpx.Response]:
        """A long answer, to be read as it comes. Raises FleetError."""
        try:
            with self._http.stream("GET", path, timeout=STREAM_TIMEOUT) as answer:
                if not answer.is_success:
                    answer.read()
                    read_answer(Call("GET", path, Empty), answer)
                yield answer
        except httpx.TransportError as error:
            raise _unreachable(self.address, error) from error

    def fork_tenant(self, name: str, wanted: ForkWanted) -> RestoreView:
        """Begin to fork a tenant into a new one; `fork` tells how far it is."""
        return self.send(fork_tenant(name, wanted))

    def fork(self, name: str, fork: str) -> RestoreView:
        return self.send(show_fork(name, fork))

    def tenant(self, name: str) -> TenantView:
        return self.send(show_tenant(name))

    def delete_tenant(self, name: str, wanted: DeletionWanted) -> DeletionView:
        """Delete a tenant, or bring the end of its grace period forward; `deletion` follows it."""
        return self.send(delete_tenant(name, wanted))

    def undelete_tenant(self, name: str) -> None:
        """Bring a deleted tenant back. Raises FleetConflict when it is too late."""
        self.send(undelete_tenant(name))

    def deletion(self, name: str) -> DeletionView:
        """The deletion of a tenant, of one that is gone as well."""
        return self.send(show_deletion(name))

    def deletions(self) -> list[DeletionView]:
        return self._all(list_deletions)

    def receipts(self, name: str) -> list[ReceiptView]:
        """What was removed of the tenants that had this name, oldest first."""
        return self.send(list_receipts(name)).items

    def remains(self, host: str) -> list[RemainsView]:
        """What ended nodes have left on a host, and what becomes of it."""
        return self.send(list_remains(host)).items

    def tenants(self) -> list[TenantView]:
        return self._all(list_tenants)

    def hosts(self) -> list[HostView]:
        return self._all(list_hosts)

    def coordinators(self) -> list[CoordinatorView]:
        return self.send(list_coordinators()).items

    def lag(self) -> list[LagView]:
        return self._all(list_lag)

    def timeline(self, after: int = 0) -> list[TimelineEntry]:
        return self.send(read_timeline(after)).items

    def history(
        self,
        tenant: str | None = None,
        *,
        kind: str | None = None,
        since: float | None = None,
        after: int = 0,
        limit: int = PAGE,
        newest: bool = False,
    ) -> list[OperationView]:
        """What was done, in the order in which it ended: up to `limit` operations (at most 1000)
        with numbers above `after`. `since` is in UNIX seconds. `newest`: the last of them."""
        call = read_history(tenant, kind, since, after, limit, newest)
        return self.send(call).items

    def drill(self, name: str) -> DrillView:
        """Have a tenant's backup restored and verified; returns when that is done."""
        return self.send(drill_tenant(name))

    def drills(self) -> list[DrillsView]:
        return self.send(list_drills()).items

    def copy(self, name: str) -> CopyView:
        """Have an independent copy of a tenant's database brought to the bucket."""
        return self.send(copy_tenant(name))

    def copies(self, name: str) -> list[CopyView]:
        return self.send(list_copies(name)).items

    def epochs(self, name: str) -> EpochList:
        """The epochs of a tenant that are in the bucket, and what becomes of them."""
        return self.send(list_epochs(name))

    def hold(self, name: str, hold: bool) -> HoldView:
        """Put a tenant on hold, so that no epoch of it is removed, or take it off."""
        return self.send(hold_tenant(name, hold))

    def change_tenant(self, name: str, change: Mapping[str, Any]) -> TenantView:
        """Change a tenant's `limits` or its `sleep_after`, as of `TenantChange`."""
        return self.send(change_tenant(name, change))

    def sleep(self, name: str) -> TenantView:
        """Have a tenant stop until it is woken: by hand, by a request or by its next timer."""
        return self.send(sleep_tenant(name))

    def wake(self, name: str) -> TenantView:
        """Have a tenant that sleeps run again."""
        return self.send(wake_tenant(name))

    def move(self, name: str, host: str | None = None) -> MoveView:
        """Have a tenant run on this host, or on any other than now. It is under way when this
        returns; `move_of` tells how far it is."""
        return self.send(move_tenant(name, host))

    def move_of(self, name: str) -> MoveView:
        """How far the last move of a tenant is."""
        return self.send(show_move(name))

    def host(self, name: str) -> HostView:
        """One host. Raises FleetNotFound."""
        return self.send(show_host(name))

    def cordon(self, name: str, *, drain: bool = False, why: str = "") -> HostView:
        """Give a host no more tenants, and with `drain` have its tenants moved to others."""
        return self.send(cordon_host(name, drain, why))

    def uncordon(self, name: str) -> HostView:
        """Give a host tenants again."""
        return self.send(uncordon_host(name))

    def resume(self) -> None:
        self.send(resume_fleet())

    def start(
        self,
        tenant: str,
        workflow: str,
        id: str | None,
        input: Mapping[str, Any],
        durable: bool = True,
    ) -> Started:
        return self.send(start_execution(tenant, workflow, id, input, durable))

    def executions(self, tenant: str, status: str | None = None) -> list[ExecutionView]:
        return self._all(partial(list_executions, tenant, status))

    def result(self, tenant: str, id: str, wait: float = 0.0) -> Outcome:
        return self.send(read_result(tenant, id, wait))


class AsyncClient:
    """The fleet's API for asyncio. Close it, or use it as an async context manager."""

    def __init__(
        self,
        address: str,
        token: str,
        transport: httpx.AsyncBaseTransport | None = None,
        *,
        by: str = "",
        why: str = "",
        connections: int = 20,
    ) -> None:
        addresses = addresses_of(address)
        self.address = ",".join(addresses)
        if len(addresses) > 1:
            transport = AsyncAnyOf(addresses, transport)
        self._http = httpx.AsyncClient(
            base_url=addresses[0],
            headers=_headers(token, by, why),
            timeout=httpx.Timeout(30.0, connect=5.0, pool=None),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            transport=transport,
            trust_env=False,
        )

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def send(self, call: Call[T]) -> T:
        """Send one call. Raises FleetError."""
        try:
            response = await self._http.request(call.method, call.path, **_request_arguments(call))
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise _unreachable(self.address, error) from error
        return read_answer(call, response)

    async def _all(self, ask: Callable[[str | None], Call[Page[Item]]]) -> list[Item]:
        """Every item, however many pages they are on."""
        page = await self.send(ask(None))
        items = page.items
        while page.next:
            page = await self.send(ask(page.next))
            items += page.items
        return items

    async def create_tenant(
        self,
        name: str,
        app: str,
        durability: Durability = "async",
        env: Mapping[str, str] | None = None,
    ) -> TenantView:
        return await self.send(create_tenant(name, app, durability, env))

    async def upgrade_tenant(self, name: str, wanted: UpgradeWanted) -> UpgradeView:
        """Begin an upgrade; `upgrade` tells how far it is."""
        return await self.send(upgrade_tenant(name, wanted))

    async def upgrade(self, name: str) -> UpgradeView:
        return await self.send(show_upgrade(name))

    async def restore_tenant(self, name: str, wanted: RestoreWanted) -> RestoreView:
        """Begin a restore in place; `restore` tells how far it is."""
        return await self.send(restore_tenant(name, wanted))

    async def restore(self, name: str) -> RestoreView:
        return await self.send(show_restore(name))

    async def fork_tenant(self, name: str, wanted: ForkWanted) -> RestoreView:
        """Begin to fork a tenant into a new one; `fork` tells how far it is."""
        return await self.send(fork_tenant(name, wanted))

    async def fork(self, name: str, fork: str) -> RestoreView:
        return await self.send(show_fork(name, fork))

    async def tenant(self, name: str) -> TenantView:
        return await self.send(show_tenant(name))

    async def delete_tenant(self, name: str, wanted: DeletionWanted) -> DeletionView:
        """Delete a tenant, or bring the end of its grace period forward; `deletion` follows it."""
        return await self.send(delete_tenant(name, wanted))

    async def undelete_tenant(self, name: str) -> None:
        """Bring a deleted tenant back. Raises FleetConflict when it is too late."""
        await self.send(undelete_tenant(name))

    async def deletion(self, name: str) -> DeletionView:
        """The deletion of a tenant, of one that is gone as well."""
        return await self.send(show_deletion(name))

    async def deletions(self) -> list[DeletionView]:
        return await self._all(list_deletions)

    async def receipts(self, name: str) -> list[ReceiptView]:
        """What was removed of the tenants that had this name, oldest first."""
        return (await self.send(list_receipts(name))).items

    async def remains(self, host: str) -> list[RemainsView]:
        """What ended nodes have left on a host, and what becomes of it."""
        return (await self.send(list_remains(host))).items

    async def tenants(self) -> list[TenantView]:
        return await self._all(list_tenants)

    async def hosts(self) -> list[HostView]:
        return await self._all(list_hosts)

    async def coordinators(self) -> list[CoordinatorView]:
        return (await self.send(list_coordinators())).items

    async def timeline(self, after: int = 0) -> list[TimelineEntry]:
        return (await self.send(read_timeline(after))).items

    async def history(
        self,
        tenant: str | None = None,
        *,
        kind: str | None = None,
        since: float | None = None,
        after: int = 0,
        limit: int = PAGE,
        newest: bool = False,
    ) -> list[OperationView]:
        """What was done, in the order in which it ended: up to `limit` operations (at most 1000)
        with numbers above `after`. `since` is in UNIX seconds. `newest`: the last of them."""
        call = read_history(tenant, kind, since, after, limit, newest)
        return (await self.send(call)).items

    async def start(
        self,
        tenant: str,
        workflow: str,
        id: str | None,
        input: Mapping[str, Any],
        durable: bool = True,
    ) -> Started:
        return await self.send(start_execution(tenant, workflow, id, input, durable))

    async def executions(self, tenant: str, status: str | None = None) -> list[ExecutionView]:
        return await self._all(partial(list_executions, tenant, status))

    async def result(self, tenant: str, id: str, wait: float = 0.0) -> Outcome:
        return await self.send(read_result(tenant, id, wait))
