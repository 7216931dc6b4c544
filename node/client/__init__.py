"""Speaking to an engine from Python: `from node.client import Client, AsyncClient`."""

from node.client.asyncio_client import AsyncClient, AsyncHandle
from node.client.asyncio_parts import AsyncQueues, AsyncSchedules
from node.client.errors import (
    Conflict,
    Denied,
    ExecutionCancelled,
    ExecutionDiverged,
    ExecutionFailed,
    ExecutionTerminated,
    Invalid,
    LitefleetError,
    NotFound,
    NotOver,
    QueryFailed,
    Unavailable,
    UnexpectedAnswer,
    Unreachable,
    UpdateFailed,
    UpdateRefused,
)
from node.client.plain_client import Client, Handle
from node.client.plain_parts import Queues, Schedules

__all__ = [
    "AsyncClient",
    "AsyncHandle",
    "AsyncQueues",
    "AsyncSchedules",
    "Client",
    "Conflict",
    "Denied",
    "ExecutionCancelled",
    "ExecutionDiverged",
    "ExecutionFailed",
    "ExecutionTerminated",
    "Handle",
    "Invalid",
    "LitefleetError",
    "NotFound",
    "NotOver",
    "QueryFailed",
    "Queues",
    "Schedules",
    "Unavailable",
    "UnexpectedAnswer",
    "Unreachable",
    "UpdateFailed",
    "UpdateRefused",
]
