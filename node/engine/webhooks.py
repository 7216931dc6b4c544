"""Webhooks that an application declares: what a request from outside starts or signals."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import update_wrapper
from typing import Any, Final, Literal

from node.engine.definition import Workflow
from node.engine.errors import DefinitionError
from node.engine.events import Reuse
from node.engine.queue import Queue
from node.engine.signals import Signal
from node.engine.webhook_checks import Check
from node.engine.webhook_request import Request

#: The longest time to wait for a result before the sender is answered, in seconds.
LONGEST_WAIT: Final = 60.0
#: Bytes that a body may have, unless a webhook says otherwise.
MAX_BODY: Final = 1024 * 1024
_PATH: Final = re.compile(r"(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+")
_DELIVERY: Final = re.compile(r"[A-Za-z0-9_.=-]{1,80}")
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})

Ack = Literal["durable", "async"]
Deliveries = str | Callable[[Request], str | None]


@dataclass(frozen=True, slots=True)
class Start:
    """Start an execution, as `POST /executions` does. Without an `id` it has the delivery's."""

    workflow: Workflow[..., Any] | str
    input: Mapping[str, Any] = field(default_factory=dict)
    id: str | None = None
    reuse: Reuse = Reuse.EXISTING
    queue: Queue | str | None = None
    priority: int = 0
    dedup: str | None = None
    partition: str | None = None
    pinned: bool | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Send:
    """Send an execution a signal. Without a `key` it has the delivery's."""

    execution: str
    signal: Signal[Any] | str
    value: Any = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Ignore:
    """Do nothing, and answer that all is well: the sender shall not try again."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer with this. A `str` is sent as text, `bytes` as they are, anything else as JSON.
    Beside other actions it is their answer, once they are done."""

    status: int = 200
    body: Any = None


Action = Start | Send | Ignore | Reply
Actions = Action | Sequence[Action]


class Webhook:
    """A plain function that says what a request is to do. Called directly it is just that."""

    def __init__(
        self,
        function: Callable[[Request], Actions],
        path: str,
        *,
        verify: Check,
        method: str,
        delivery: Deliveries | None,
        wait_result: float,
        ack: Ack,
        max_body: int,
    ) -> None:
        if (
            inspect.iscoroutinefunction(function)
            or len(inspect.signature(function).parameters) != 1
        ):
            raise DefinitionError(f"webhook {path}: it is a plain function of one Request")
        if not _PATH.fullmatch(path) or len(path) > 80:
            raise DefinitionError(
                f"webhook {path!r}: a path is like /github/push: letters, digits, '_', '-' and '.'"
                " between slashes, at most 80"
            )
        if not isinstance(verify, Check):
            raise DefinitionError(
                f"webhook {path}: verify says how a request is checked",
                hint="If everybody may send, say so: verify=Unsigned().",
            )
        if method not in _METHODS:
            raise DefinitionError(f"webhook {path}: the method is one of {sorted(_METHODS)}")
        if not 0 <= wait_result <= LONGEST_WAIT:
            raise DefinitionError(f"webhook {path}: it waits at most {LONGEST_WAIT:g} s")
        if ack not in ("durable", "async"):
            raise DefinitionError(f"webhook {path}: ack is 'durable' or 'async'")
        if max_body < 0:
            raise DefinitionError(f"webhook {path}: max_body is in bytes, and not negative")
        self.function = function
        self.path = path
        self.verify = verify
        self.method = method
        self.wait_result = wait_result
        self.ack = ack
        self.max_body = max_body
        self._delivery = delivery
        update_wrapper(self, function)

    def __call__(self, request: Request) -> Actions:
        return self.function(request)

    def delivery(self, request: Request) -> str | None:
        """What names this delivery, the same each time that it is sent again. Raises
        WebhookUnreadable."""
        if self._delivery is None:
            return self.verify.delivery(request)
        if callable(self._delivery):
            return self._delivery(request)
        return request.headers.get(self._delivery.lower())

    def actions(self, request: Request) -> list[Action]:
        """What a request that passed its check is to do.

        Raises whatever the function raises, and TypeError when it returns something else.
        """
        given = self.function(request)
        found = [given] if isinstance(given, Action) else list(given)
        for action in found:
            if not isinstance(action, Action):
                raise TypeError(f"{action!r} is neither Start, Send, Ignore nor Reply")
        if sum(isinstance(action, Reply) for action in found) > 1:
            raise TypeError("a webhook has one Reply at most")
        return found

    def named(self, actions: Sequence[Action], request: Request) -> list[Action]:
        """The actions, with ids and keys after the delivery where the function gave none. Raises
        WebhookUnreadable."""
        delivery = self.delivery(request)
        if not delivery:
            return list(actions)
        # No part of it can hold what divides it from the next, so no two deliveries share one.
        name = f"{self.path[1:].replace('/', ':')}:{_safe(delivery)}"
        return [
            _named(action, f"{name}~{number}" if number else name)
            for number, action in enumerate(actions)
        ]


def _named(action: Action, name: str) -> Action:
    if isinstance(action, Start) and action.id is None:
        return replace(action, id=name)
    if isinstance(action, Send) and action.key is None:
        return replace(action, key=name)
    return action


def _safe(delivery: str) -> str:
    """A digest of what cannot be part of an id."""
    if _DELIVERY.fullmatch(delivery):
        return delivery
    return "sha256=" + hashlib.sha256(delivery.encode()).hexdigest()


def webhook(
    path: str,
    *,
    verify: Check,
    method: str = "POST",
    delivery: Deliveries | None = None,
    wait_result: float | timedelta = 0,
    ack: Ack = "durable",
    max_body: int = MAX_BODY,
) -> Callable[[Callable[[Request], Actions]], Webhook]:
    """Declare a webhook at `/webhooks` + `path`.

    `verify` checks each request first. `delivery` names what tells one delivery from another,
    where the check does not know it: a header, or a function of the request. `wait_result`
    seconds are waited for the result of what it starts. With `ack="durable"` the sender is
    answered once what was done is proven. `max_body` in bytes. Raises DefinitionError.
    """
    seconds = wait_result.total_seconds() if isinstance(wait_result, timedelta) else wait_result

    def declare(function: Callable[[Request], Actions]) -> Webhook:
        return Webhook(
            function,
            path,
            verify=verify,
            method=method,
            delivery=delivery,
            wait_result=seconds,
            ack=ack,
            max_body=max_body,
        )

    return declare
