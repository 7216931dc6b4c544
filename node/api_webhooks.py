"""The engine's HTTP API for webhooks: what others send, checked before anything is read of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

import starlette.requests
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse, Response

from node.api_answers import Answers
from node.api_models_application import WebhookList, WebhookShown
from node.api_route import Content, Refusal, Routes, operation
from node.engine.engine import Engine
from node.engine.errors import (
    EngineError,
    ExecutionClosed,
    ExecutionConflict,
    ExecutionDiverged,
    PayloadError,
    PayloadTooLarge,
    UnknownExecution,
    UnknownQueue,
    UnknownWebhook,
    UnknownWorkflow,
    WebhookFailed,
    WebhookRefused,
    WebhookSecretMissing,
    WebhookTooLarge,
    WebhookUnreadable,
)
from node.engine.events import CLOSED_STATUS, Status
from node.engine.views import ExecutionView
from node.engine.webhook_request import Request, joined
from node.engine.webhooks import Action, Ignore, Reply, Send, Start, Webhook

logger = logging.getLogger(__name__)

_DONE: Final = Content(
    "application/json",
    "What was started or signalled, or what the webhook replies.",
    {"type": "object", "additionalProperties": True},
)
_CLOSED: Final = frozenset(CLOSED_STATUS.values())
#: A mistake of the application's, of which the sender need not hear more.
_MISTAKES: Final = (UnknownWorkflow, UnknownQueue, PayloadError)


class WebhooksApi(Routes):
    """Routes for webhooks. `environment` has their secrets; `clock` gives unix seconds."""

    def __init__(
        self,
        engine: Engine,
        answers: Answers,
        environment: Mapping[str, str],
        clock: Callable[[], float],
    ) -> None:
        self.engine = engine
        self.answers = answers
        self.environment = environment
        self.clock = clock

    @operation("GET", "/webhooks")
    async def list_webhooks(self) -> WebhookList:
        """All webhooks that the application declares, and whether their secrets are there."""
        declared = self.engine.config.application.webhooks.values()
        return WebhookList(items=[self._about(one) for one in declared])

    @operation(
        "GET|POST|PUT|PATCH|DELETE",
        "/webhooks/{path:path}",
        statuses=(202, 200),
        raises=(
            WebhookUnreadable,
            WebhookRefused,
            UnknownWebhook,
            UnknownExecution,
            ExecutionClosed,
            ExecutionConflict,
            ExecutionDiverged,
            PayloadError,
            PayloadTooLarge,
            WebhookTooLarge,
            WebhookFailed,
            WebhookSecretMissing,
        ),
        refusals=(Refusal("method_not_allowed", 405, "The webhook takes another method."),),
        proves=True,
        content=(_DONE,),
    )
    async def receive_webhook(self, request: starlette.requests.Request) -> Response:
        """202 once everything that the request asks for is in the log, and proven where the
        webhook says so."""
        hook = self._find(request.method, "/" + request.path_params["path"])
        given = Request(
            await _body(request, hook),
            joined(request.headers.items()),
            dict(request.query_params),
            request.method,
        )
        try:
            hook.verify.verify(given, self.environment, self.clock())
        except WebhookSecretMissing as error:
            logger.error("webhook %s takes nothing: %s", hook.path, error)
            raise WebhookSecretMissing(
                "this webhook has no secret to check a request with"
            ) from error
        except WebhookRefused as error:
            logger.warning("webhook %s refused a request: %s", hook.path, error)
            raise
        asked, actions = await self._decide(hook, given)
        if any(isinstance(action, (Start, Send)) for action in actions):
            self.answers.admit(hook.ack, "a webhook")
        return await self._carry_out(hook, asked, actions)

    def _find(self, method: str, path: str) -> Webhook:
        webhooks = self.engine.config.application.webhooks
        found = webhooks.get(f"{method} {path}")
        if found is not None:
            return found
        if any(one.path == path for one in webhooks.values()):
            raise HTTPException(405, "Method Not Allowed")
        raise UnknownWebhook(f"there is no webhook {path!r}")

    async def _decide(self, hook: Webhook, given: Request) -> tuple[list[Action], list[Action]]:
        """What the function asked for, and the same with the delivery's ids and keys."""
        try:
            # On a thread: it is the tenant's code, and must not hold up the engine.
            asked = await asyncio.to_thread(hook.actions, given)
            return asked, hook.named(asked, given)
        except (WebhookUnreadable, WebhookRefused):
            raise
        except Exception as error:
            logger.exception("the function of webhook %s failed", hook.path)
            raise WebhookFailed(f"webhook {hook.path} failed") from error

    async def _carry_out(
        self, hook: Webhook, asked: list[Action], actions: list[Action]
    ) -> Response:
        done: list[dict[str, Any]] = []
        started: list[tuple[dict[str, Any], str]] = []
        sequence = 0
        reply: Reply | None = None
        for before, action in zip(asked, actions, strict=True):
            try:
                if isinstance(action, Start):
                    view, existing = await self._start(action, derived=before is not action)
                    about = {"execution": view.id, "existing": existing}
                    started.append((about, view.id))
                    sequence = max(sequence, view.sequence)
                elif isinstance(action, Send):
                    about, at = await self._send(action)
                    sequence = max(sequence, at)
                elif isinstance(action, Ignore):
                    about = {"ignored": action.reason}
                else:
                    reply = action
                    continue
            except _MISTAKES as error:
                logger.error("webhook %s asked for what cannot be done: %s", hook.path, error)
                raise WebhookFailed(f"webhook {hook.path} failed") from error
            done.append(about)
        standing = await self.answers.proven(sequence, hook.ack) if sequence else {}
        ended = False
        if hook.wait_result and started and reply is None:
            ended = await self._results(hook, started)
        if reply is not None:
            return _reply(reply)
        body = done[0] if len(done) == 1 else {"items": done}
        return JSONResponse({**body, **standing}, status_code=200 if ended else 202)

    async def _start(self, action: Start, *, derived: bool) -> tuple[ExecutionView, bool]:
        workflow, queue = action.workflow, action.queue
        try:
            started = await self.engine.start(
                workflow if isinstance(workflow, str) else workflow.name,
                action.input,
                id=action.id,
                reuse=action.reuse,
                queue=queue if queue is None or isinstance(queue, str) else queue.name,
                priority=action.priority,
                dedup=action.dedup,
                partition=action.partition,
                pinned=action.pinned,
                labels=action.labels,
            )
        except ExecutionConflict:
            if not derived or action.id is None:
                raise
            # The delivery came before, and code of another version made something else of it.
            return self.engine.execution(action.id), True
        return started.view, not started.created

    async def _send(self, action: Send) -> tuple[dict[str, Any], int]:
        name = action.signal if isinstance(action.signal, str) else action.signal.name
        sent = await self.engine.signal(action.execution, name, action.value, key=action.key)
        about = {"execution": action.execution, "signal": name, "existing": not sent.arrived}
        return about, sent.sequence

    async def _results(self, hook: Webhook, started: list[tuple[dict[str, Any], str]]) -> bool:
        """Add the outcomes that are there in time; whether all are. Raises Unproven."""
        views = await asyncio.gather(
            *(self.engine.result(id, wait=hook.wait_result) for _, id in started)
        )
        if hook.ack == "durable":
            # Nobody may act on a result that a loss of the host could take back.
            await self.answers.prove(max(view.sequence for view in views))
        for (about, _), view in zip(started, views, strict=True):
            about["status"] = view.status
            if view.status is Status.COMPLETED:
                about["result"] = view.result
            elif view.error is not None:
                about["error"] = view.error
        return all(view.status in _CLOSED for view in views)

    def _about(self, hook: Webhook) -> WebhookShown:
        missing: str | None = None
        try:
            hook.verify.verify(Request(), self.environment, self.clock())
        except WebhookSecretMissing as error:
            missing = str(error)
        except EngineError:
            pass
        return WebhookShown(
            path=f"/webhooks{hook.path}",
            method=hook.method,
            check=type(hook.verify).__name__,
            trouble=missing,
        )


async def _body(request: starlette.requests.Request, hook: Webhook) -> bytes:
    """The whole body as it was sent. Raises WebhookTooLarge as soon as it is known to be that."""
    too_large = WebhookTooLarge(f"webhook {hook.path} takes at most {hook.max_body} bytes")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > hook.max_body:
        raise too_large
    parts, size = list[bytes](), 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > hook.max_body:
                raise too_large
            parts.append(part)
    except ClientDisconnect as error:
        raise WebhookUnreadable("the sender went away in the middle of its request") from error
    return b"".join(parts)


def _reply(reply: Reply) -> Response:
    if isinstance(reply.body, bytes):
        return Response(reply.body, status_code=reply.status)
    if reply.body is None or isinstance(reply.body, str):
        return PlainTextResponse(reply.body, status_code=reply.status)
    return JSONResponse(reply.body, status_code=reply.status)
