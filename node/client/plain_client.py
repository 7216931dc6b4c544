"""The client for plain code: `Client`, and `Handle` for one execution."""

# Made from asyncio_client.py by tests/unit/client/unasync.py: change that, and run this.

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypeVar, Unpack, overload

import httpx
import tenacity
from pydantic import BaseModel

from node.api_models import (
    Ack,
    Completed,
    Controlled,
    EngineStatus,
    EventShown,
    ExecutionDetail,
    ExecutionShown,
    Outcome,
    Signalled,
    Started,
    StreamItem,
    StreamShown,
    Waits,
)
from node.api_models_application import WorkflowShown
from node.api_models_finding import BulkItem, BulkRequest, CountQuery, Counts, ListQuery
from node.api_models_retention import Deleted, Held, Pruned, RetentionShown
from node.api_models_sql import SqlRows
from node.client import calls, scripts
from node.client.calls import Call
from node.client.requests import (
    Filters,
    Options,
    decoder,
    filter_fields,
    filter_of,
    query_request,
    signal_request,
    start_request,
    typed,
    update_request,
)
from node.client.sending import PATIENCE, Address, headers, policy
from node.engine.archive import Archive
from node.engine.definition import Workflow
from node.engine.events import Status
from node.engine.signals import Signal

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


class Client:
    """One engine, for plain code. Close it, or use it in `with`.

    `url` is an engine's own address, a tenant's path at the fleet's gateway (with its `token`),
    or `unix:///path/of/engine.sock`. With `ack` "durable" answers are given once they are proven
    in the bucket; "async" does not wait, and is what an engine without a supervisor can do. What
    can be repeated without harm is sent again for up to `patience` seconds while the engine
    moves or cannot be reached; `on_wait` is told why. Every method raises LitefleetError.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        ack: Ack = "durable",
        patience: float = PATIENCE,
        on_wait: Callable[[str], None] | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        address = Address.of(url)
        if transport is None and address.socket is not None:
            transport = httpx.HTTPTransport(uds=address.socket)
        self.address = url
        self.ack: Ack = ack
        self.patience = patience
        self.on_wait = on_wait
        self._options: Options = {}
        self._http = httpx.Client(
            base_url=address.base, headers=headers(token), transport=transport, trust_env=False
        )

    def __enter__(self) -> Self:
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

    def send(self, call: Call[M]) -> M:
        """Send one call, again where that does no harm."""
        retrying = tenacity.Retrying(**policy(call, self.patience, self.on_wait))
        answer: M = retrying(self._send, call)
        return answer

    def _send(self, call: Call[M]) -> M:
        try:
            response = self._http.request(call.method, call.path, **call.arguments())
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise calls.unreachable(self.address, error) from error
        return calls.read(call, response)

    # Executions -------------------------------------------------------------------------------

    def using(self, *, ack: Ack | None = None, **options: Unpack[Options]) -> Self:
        """The same client, whose `start` has these options."""
        twin = copy.copy(self)
        twin.ack = ack or self.ack
        twin._options = options
        return twin

    @overload
    def start(
        self, workflow: Workflow[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Handle[R]: ...
    @overload
    def start(self, workflow: str, input: Mapping[str, Any] | None = None, /) -> Handle[Any]: ...
    def start(
        self, workflow: Workflow[..., Any] | str, /, *args: Any, **kwargs: Any
    ) -> Handle[Any]:
        """Start an execution; it is in the log, and proven unless `ack` is "async", when this
        returns.

        With a workflow, its arguments; with a name, a dict of them. Without an id one is made
        up, so that it can be sent again. Raises PayloadError, Conflict, NotFound.
        """
        request = start_request(self._options, self.ack, workflow, args, kwargs)
        started = self.send(calls.start(request))
        return Handle(self, started.id, decoder(workflow), started)

    @overload
    def handle(self, id: str, workflow: Workflow[..., R]) -> Handle[R]: ...
    @overload
    def handle(self, id: str, workflow: str | None = None) -> Handle[Any]: ...
    def handle(self, id: str, workflow: Workflow[..., Any] | str | None = None) -> Handle[Any]:
        """An execution that is there, whose result is of this workflow's type. Asks nothing."""
        return Handle(self, id, decoder(workflow))

    def executions(
        self, *, newest: bool = False, limit: int | None = None, **filters: Unpack[Filters]
    ) -> Iterator[ExecutionShown]:
        """Executions in the order of their start, the newest first if it is asked for, page by
        page as they are wanted."""
        query = ListQuery(
            order="newest" if newest else "oldest",
            limit=min(limit or calls.PAGE, calls.PAGE),
            **filter_fields(filters),
        )
        return scripts.iterate(scripts.executions(query, limit), self.send)

    def count(self, *by: str, **filters: Unpack[Filters]) -> Counts:
        """How many executions there are, for each "status" and "workflow" as it is asked."""
        query = CountQuery.model_validate({"by": by or ["status"], **filter_fields(filters)})
        return self.send(calls.count(query))

    def bulk(
        self,
        action: str,
        *,
        reason: str = "",
        signal: str | None = None,
        value: Any = None,
        all: bool = False,
        dry_run: bool = False,
        **filters: Unpack[Filters],
    ) -> Iterator[BulkItem]:
        """Cancel, terminate, pause, resume, retry or signal every execution that is found, batch
        by batch as the answers are read. With `dry_run`, only which ones it would be."""
        request = BulkRequest.model_validate(
            {
                "action": action,
                "filter": filter_of(filters),
                "reason": reason,
                "signal": signal,
                "value": value,
                "all": all,
                "dry_run": dry_run,
                "ack": self.ack,
            }
        )
        return scripts.iterate(scripts.bulk(request), self.send)

    # The engine -------------------------------------------------------------------------------

    def complete(self, token: str, value: Any = None) -> Completed:
        """Complete an external event by its token."""
        return self.send(calls.complete(token, value, self.ack))

    def sql(
        self,
        statement: str,
        parameters: Mapping[str, Any] | tuple[Any, ...] = (),
        *,
        timeout: float | None = None,
        rows: int | None = None,
    ) -> SqlRows:
        """Read the log with a SELECT; `timeout` in seconds."""
        return self.send(calls.sql(statement, parameters, timeout, rows))

    def retention(self) -> RetentionShown:
        """The rules of retention, what they have removed, and when they look again."""
        return self.send(calls.retention())

    def prune(self, *, dry_run: bool = False) -> Iterator[Pruned]:
        """Remove what is due now, piece by piece as the answers are read; with `dry_run`, only
        say what that is."""
        return scripts.iterate(scripts.prune(dry_run, self.ack), self.send)

    def workflows(self) -> list[WorkflowShown]:
        """The application's workflows with their JSON Schemas."""
        return self.send(calls.workflows()).items

    def status(self) -> EngineStatus:
        """How the engine stands."""
        return self.send(calls.status())


class Handle(Generic[R]):
    """One execution, whose result is an R. Every method raises LitefleetError.

    `started` is the answer to the start that gave it, with its standing; None for one that was
    not started here.
    """

    def __init__(
        self,
        client: Client,
        id: str,
        decode: Callable[[Any], R],
        started: Started | None = None,
    ) -> None:
        self.id = id
        self.started = started
        self._client = client
        self._decode = decode

    def __repr__(self) -> str:
        return f"Handle({self.id!r})"

    def result(self, wait: float | None = None) -> R:
        """Its result, once it has completed; after `wait` seconds NotOver is raised.

        Raises ExecutionFailed, or the kind of it that says that it was cancelled, terminated or
        diverged; PayloadError for a result that is not of the workflow's type.
        """
        client = self._client
        script = scripts.result(self.id, wait, client.ack, self._decode)
        return scripts.carry_out(script, client.send)

    def outcome(self, wait: float | None = 0.0) -> Outcome:
        """How it stands once it is over, or after `wait` seconds: with its result as JSON or its
        error, and whether that is durable."""
        script = scripts.outcome(self.id, wait, self._client.ack)
        return scripts.carry_out(script, self._client.send)

    def show(self) -> ExecutionDetail:
        """What there is to say about it."""
        return self._client.send(calls.show(self.id))

    def status(self) -> Status:
        """How it stands."""
        return self.show().status

    @overload
    def signal(self, signal: Signal[T], value: T, *, key: str | None = None) -> Signalled: ...
    @overload
    def signal(self, signal: str, value: Any = None, *, key: str | None = None) -> Signalled: ...
    def signal(
        self, signal: Signal[Any] | str, value: Any = None, *, key: str | None = None
    ) -> Signalled:
        """Send it a signal. Twice with one `key`, it arrives once; without, one is made up."""
        name, request = signal_request(signal, value, key, self._client.ack)
        return self._client.send(calls.signal(self.id, name, request))

    @overload
    def query(self, name: str, input: Mapping[str, Any] | None = None, *, type: type[T]) -> T: ...
    @overload
    def query(self, name: str, input: Mapping[str, Any] | None = None) -> Any: ...
    def query(self, name: str, input: Mapping[str, Any] | None = None, *, type: Any = None) -> Any:
        """Ask it something that changes nothing, and read the answer as `type`."""
        request = query_request(input, self._client.ack)
        answer = self._client.send(calls.query(self.id, name, request))
        return typed(answer.result, type)

    @overload
    def update(
        self,
        name: str,
        input: Mapping[str, Any] | None = None,
        *,
        type: type[T],
        key: str | None = None,
    ) -> T: ...
    @overload
    def update(
        self, name: str, input: Mapping[str, Any] | None = None, *, key: str | None = None
    ) -> Any: ...
    def update(
        self,
        name: str,
        input: Mapping[str, Any] | None = None,
        *,
        type: Any = None,
        key: str | None = None,
    ) -> Any:
        """Have it change something, and read what its handler answers as `type`. Twice with one
        `key`, it is done once. Raises UpdateRefused, UpdateFailed."""
        request = update_request(input, key, self._client.ack)
        answer = self._client.send(calls.update(self.id, name, request))
        return typed(answer.result, type)

    def cancel(self, reason: str = "") -> Controlled:
        """Ask it, and its children, to stop."""
        return self._client.send(calls.stop(self.id, "cancel", reason, self._client.ack))

    def terminate(self, reason: str = "") -> Controlled:
        """End it and its children without asking their code."""
        return self._client.send(calls.stop(self.id, "terminate", reason, self._client.ack))

    def pause(self) -> Controlled:
        """Let it start no further attempt and see no timer fire."""
        return self._client.send(calls.control(self.id, "pause", self._client.ack))

    def resume(self) -> Controlled:
        """Let it go on."""
        return self._client.send(calls.control(self.id, "resume", self._client.ack))

    def retry(self) -> Controlled:
        """Try one that failed again, from the step that failed."""
        return self._client.send(calls.control(self.id, "retry", self._client.ack))

    def delete(self) -> Deleted:
        """Remove it from the log, once it has ended. Raises ExecutionOpen, ExecutionHeld."""
        return self._client.send(calls.remove(self.id, self._client.ack))

    def hold(self, reason: str = "") -> Held:
        """Let nothing remove it until it is released."""
        return self._client.send(calls.hold(self.id, reason, self._client.ack))

    def release(self) -> Held:
        """Let it be removed again."""
        return self._client.send(calls.release(self.id, self._client.ack))

    def waiting(self) -> Waits:
        """What it waits for, since when, and what will wake it."""
        return self._client.send(calls.waiting(self.id))

    def archive(self) -> Archive:
        """The execution as a file that `litefleet replay` takes."""
        return self._client.send(calls.archive(self.id))

    def streams(self) -> list[StreamShown]:
        """What it has published to."""
        return self._client.send(calls.streams(self.id)).items

    def events(self, after: int = 0) -> Iterator[EventShown]:
        """Its part of the log, from the sequence `after` on."""
        return scripts.iterate(scripts.events(self.id, after), self._client.send)

    def follow(self, stream: str, offset: int = 0) -> Iterator[StreamItem]:
        """The values of a stream as they come, to its end."""
        script = scripts.follow(self.id, stream, offset, self._client.ack)
        return scripts.iterate(script, self._client.send)
