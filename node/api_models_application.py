"""What the engine's API takes and gives about an application: workflows, queues, webhooks."""

from __future__ import annotations

from typing import Any

from pydantic import (
    ConfigDict,
    Field,
    RootModel,
)

from node.api_models import Ack, Asked, Failure, Shown, Standing, Started, Wait
from node.api_models_finding import Label
from node.engine.events import Reuse


class WebhookShown(Shown):
    """A webhook that the application declares."""

    path: str
    method: str
    check: str
    trouble: str | None = Field(description="Which secret is missing, if any.")


class WebhookList(Shown):
    """The application's webhooks."""

    items: list[WebhookShown]


class QueueShown(Shown):
    """A queue as it is now. Times are unix seconds; limits are null where there is none."""

    name: str
    declared: bool = Field(description="Whether the application still has it; or nothing goes.")
    paused: bool
    waiting: int
    running: int
    oldest_since: float | None = Field(description="Since when the first one waits.")
    next_at: float | None = Field(description="When time alone lets the next one go.")
    concurrency: int | None
    rate: dict[str, Any] | None
    partition_concurrency: int | None
    partition_rate: dict[str, Any] | None
    duplicates: str


class QueueList(Shown):
    """The queues."""

    items: list[QueueShown]


class QueueChanged(Standing):
    """The answer to a pause or resume."""

    name: str
    changed: bool


class MessageShown(Shown):
    """A signal, query or update that a workflow's code takes."""

    name: str
    description: str = ""
    input: dict[str, Any] = Field(description="The JSON Schema of what it is sent.")
    result: dict[str, Any] | None = Field(
        default=None, description="The JSON Schema of its answer; a signal has none."
    )


class WorkflowShown(Shown):
    """A workflow, and how to speak to it."""

    name: str
    description: str = ""
    input: dict[str, Any] = Field(description="The JSON Schema of its arguments by name.")
    result: dict[str, Any] = Field(description="The JSON Schema of its result.")
    durability: str | None = None
    queue: str | None = None
    signals: list[MessageShown]
    queries: list[MessageShown]
    updates: list[MessageShown]


class RunQuery(Asked):
    """How to start a workflow whose arguments are the body."""

    id: str | None = None
    wait: Wait = 0
    reuse: Reuse = Reuse.EXISTING
    queue: str | None = None
    priority: int = 0
    dedup: str | None = None
    partition: str | None = None
    label: list[Label] = Field(default_factory=list, description="As in customer=acme.")
    ack: Ack = "durable"


class VersionShown(Shown):
    """A version of the application, and the open executions that need it."""

    version: str | None
    current: bool
    loaded: bool
    open: int
    pinned: int


class VersionList(Shown):
    """The versions of the application."""

    items: list[VersionShown]


class WorkflowInput(RootModel[dict[str, Any]]):
    """A workflow's arguments by name."""

    model_config = ConfigDict(defer_build=True)


class Ran(Started):
    """The answer to a start that waits: with the result or the error if it came in time."""

    result: Any = Field(default=None, description="There once it has completed.")
    error: Failure | None = Field(
        default=None, description="There once it has failed, or was stopped."
    )


class WorkflowList(Shown):
    """The application's workflows."""

    application: str
    version: str | None
    items: list[WorkflowShown]
