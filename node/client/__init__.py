"""Speaking to an engine from Python: `from node.client import Client, AsyncClient`."""

from node.client.asyncio_client import AsyncClient, AsyncHandle
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

__all__ = [
    "AsyncClient",
    "AsyncHandle",
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
    "Unavailable",
    "UnexpectedAnswer",
    "Unreachable",
    "UpdateFailed",
    "UpdateRefused",
]
