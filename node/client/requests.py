"""What the clients' methods are given, as the requests that the engine takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict
from uuid import uuid4

from pydantic import TypeAdapter

from node.api_models import Ack, QueryRequest, SignalRequest, StartRequest, UpdateRequest
from node.api_models_finding import Filter
from node.engine.definition import Workflow
from node.engine.events import Reuse, Status
from node.engine.queue import Queue
from node.engine.signals import Signal

AnyWorkflow = Workflow[..., Any]


class Options(TypedDict, total=False):
    """How executions are started, beside what they are given; as in POST /executions."""

    id: str
    reuse: Reuse
    queue: Queue | str
    priority: int
    dedup: str
    partition: str
    labels: Mapping[str, str]
    pinned: bool


class Filters(TypedDict, total=False):
    """Which executions: those for which all of it is so. Of several statuses or workflows one
    must be so, of labels all. Moments are datetimes with a time zone, or unix seconds."""

    status: Status | str | Sequence[Status | str]
    workflow: AnyWorkflow | str | Sequence[AnyWorkflow | str]
    id_prefix: str
    labels: Mapping[str, str]
    started_after: datetime | float
    started_before: datetime | float
    closed_after: datetime | float
    closed_before: datetime | float
    parent: str
    queue: Queue | str
    version: str
    failures: bool


def start_request(
    options: Options,
    ack: Ack,
    workflow: AnyWorkflow | str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> StartRequest:
    """A start with an id, so that it can be sent again. Raises PayloadError for arguments that
    are not of the declared types, TypeError for ones that the workflow does not have."""
    given: dict[str, Any] = {"id": uuid4().hex}
    if isinstance(workflow, str):
        name, values = workflow, dict(*(part for part in args if part is not None), **kwargs)
    else:
        name, values = workflow.name, json.loads(workflow.codec.input(args, kwargs))
        given |= _chosen(workflow)
    given |= options
    if isinstance(given.get("queue"), Queue):
        given["queue"] = given["queue"].name
    return StartRequest(workflow=name, input=values, ack=ack, **given)


def _chosen(workflow: AnyWorkflow) -> dict[str, Any]:
    """What `with_id`, `with_labels` and `on_queue` said."""
    given: dict[str, Any] = {}
    if workflow.given_id is not None:
        given["id"] = workflow.given_id
    if workflow.given_labels:
        given["labels"] = workflow.given_labels
    ticket = workflow.given_ticket
    if ticket is not None:
        asked = {"priority": ticket.priority, "dedup": ticket.dedup, "partition": ticket.partition}
        given |= {"queue": ticket.queue} | {key: value for key, value in asked.items() if value}
    return given


def filter_fields(filters: Filters) -> dict[str, Any]:
    """The same as `Filter` has it."""
    given: dict[str, Any] = dict(filters)
    for key in ("status", "workflow"):
        if key in given:
            several = given[key] if isinstance(given[key], (list, tuple, set)) else [given[key]]
            given[key] = [
                getattr(one, "name", one) if key == "workflow" else one for one in several
            ]
    if "labels" in given:
        given["label"] = [f"{name}={value}" for name, value in given.pop("labels").items()]
    if isinstance(given.get("queue"), Queue):
        given["queue"] = given["queue"].name
    for key, value in given.items():
        if isinstance(value, datetime):
            if value.tzinfo is None:
                raise ValueError(f"{key} takes a datetime with a time zone")
            given[key] = value.timestamp()
    return given


def filter_of(filters: Filters) -> Filter:
    """Raises ValueError for what cannot be one."""
    return Filter(**filter_fields(filters))


def signal_request(
    signal: Signal[Any] | str, value: Any, key: str | None, ack: Ack
) -> tuple[str, SignalRequest]:
    """A signal with a key, so that it can be sent again. Raises PayloadError for a value that is
    not of the signal's type."""
    name = signal
    if isinstance(signal, Signal):
        name, value = signal.name, json.loads(signal.shape.write(value))
    return str(name), SignalRequest(value=value, key=key or uuid4().hex, ack=ack)


def update_request(input: Mapping[str, Any] | None, key: str | None, ack: Ack) -> UpdateRequest:
    """An update with a key, so that it can be sent again."""
    return UpdateRequest(input=dict(input or {}), key=key or uuid4().hex, ack=ack)


def query_request(input: Mapping[str, Any] | None, ack: Ack) -> QueryRequest:
    return QueryRequest(input=dict(input or {}), ack=ack)


def decoder(workflow: AnyWorkflow | str | None) -> Callable[[Any], Any]:
    """How a workflow's result is read: by its type hint, or as it is where only a name is
    known."""
    if workflow is None or isinstance(workflow, str):
        return _as_it_is
    codec = workflow.codec
    return lambda value: codec.value(json.dumps(value))


def typed(value: Any, type: Any) -> Any:
    """A value read as this type; as it is without one."""
    return value if type is None else TypeAdapter(type).validate_python(value)


def _as_it_is(value: Any) -> Any:
    return value
