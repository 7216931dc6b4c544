"""The engine's HTTP API. It describes itself: GET /openapi.json."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from node.api_answers import (
    Answers,
    Unproven,
    engine_error,
    http_error,
    unexpected,
    unproven,
    validation_error,
)
from node.api_bulk import BulkApi
from node.api_control import ControlApi
from node.api_description import DescriptionApi
from node.api_executions import ExecutionsApi
from node.api_forks import ForksApi
from node.api_log import LogApi
from node.api_messages import MessagesApi
from node.api_metrics import MetricsApi
from node.api_queues import QueuesApi
from node.api_retention import RetentionApi
from node.api_route import DeclaredRoute
from node.api_schedules import SchedulesApi
from node.api_sql import SqlApi
from node.api_streams import StreamsApi
from node.api_webhooks import WebhooksApi
from node.api_workflows import WorkflowsApi
from node.engine.engine import Engine
from node.engine.errors import EngineError

EPOCH_HEADER: Final = "litefleet-epoch"


def create_api(
    engine: Engine,
    *,
    proof_timeout: float = 10.0,
    environment: Mapping[str, str] = os.environ,
    clock: Callable[[], float] = time.time,
    log: Path | None = None,
    metrics: MetricsApi | None = None,
) -> Starlette:
    """The API of one engine. The secrets of its webhooks are in the `environment`; `clock` gives
    unix seconds; `log` is the file that its process logs to.

    An answer says `durable: true` only when the log up to its bookmark is proven; it waits up
    to `proof_timeout` seconds for that.
    """
    answers = Answers(engine, proof_timeout)
    # Each declares its routes with what they take and give (api_route.py).
    parts = (
        # First: the others would take "import" for an execution's id.
        ForksApi(engine, answers),
        ExecutionsApi(engine, answers),
        WorkflowsApi(engine, answers),
        MessagesApi(engine, answers),
        ControlApi(engine, answers),
        BulkApi(engine, answers),
        QueuesApi(engine, answers),
        SqlApi(engine, answers),
        StreamsApi(engine, answers),
        RetentionApi(engine, answers),
        SchedulesApi(engine, answers),
        WebhooksApi(engine, answers, environment, clock),
        LogApi(log),
        metrics or MetricsApi(engine),
    )
    routes: list[Route] = [route for part in parts for route in part.routes()]
    description = DescriptionApi(
        engine, [route for route in routes if isinstance(route, DeclaredRoute)]
    )
    return _EngineApi(
        engine.config.epoch,
        routes=[*routes, *description.routes()],
        exception_handlers={
            EngineError: engine_error,
            ValidationError: validation_error,
            HTTPException: http_error,
            Unproven: unproven,
            Exception: unexpected,
        },
    )


class _EngineApi(Starlette):
    def __init__(self, epoch: int, **options: Any) -> None:
        super().__init__(**options)
        self._epoch = str(epoch).encode()

    def build_middleware_stack(self) -> ASGIApp:
        # Around everything, since the handler of unexpected errors is outside of any middleware.
        return _EpochHeader(super().build_middleware_stack(), self._epoch)


class _EpochHeader:
    """Puts the epoch on every answer, so that a gateway can tell an old engine's from a new."""

    def __init__(self, app: ASGIApp, epoch: bytes) -> None:
        self.app = app
        self.header = (EPOCH_HEADER.encode(), epoch)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), self.header]
            await send(message)

        await self.app(scope, receive, stamped if scope["type"] == "http" else send)
