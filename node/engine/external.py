"""Events that something outside completes, by a token that only the workflow gave away."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Generator
from hashlib import blake2b
from hmac import compare_digest
from typing import Any, Generic, TypeVar

from node.engine.errors import UnknownToken
from node.engine.steps import Step

T = TypeVar("T")


class External(Generic[T]):
    """Await it for the value that somebody outside gives. `token` is what they need for that,
    and all they need: pass it to an activity that hands it on."""

    def __init__(self, token: str, future: asyncio.Future[Any]) -> None:
        self.token = token
        self._future = future

    def __await__(self) -> Generator[Any, None, T]:
        return self._future.__await__()


def execution_secret(secret: bytes, execution: str) -> bytes:
    """What an execution's tokens are made with, from the secret of its log."""
    return blake2b(execution.encode(), digest_size=32, key=secret, person=b"execution").digest()


def token_for(secret: bytes, execution: str, step: Step) -> str:
    """The token of one event; `secret` is the execution's."""
    where = json.dumps([execution, *step], separators=(",", ":")).encode()
    mac = blake2b(where, digest_size=18, key=secret, person=b"token").digest()
    return urlsafe_b64encode(mac + where).decode().rstrip("=")


def addressed(token: str) -> tuple[str, Step]:
    """Which event a token names, if it is genuine. Raises UnknownToken."""
    try:
        raw = urlsafe_b64decode(token + "=" * (-len(token) % 4))
        execution, name, number = json.loads(raw[18:])
    except ValueError:
        raise UnknownToken("this is no token") from None
    return str(execution), (str(name), int(number))


def check_token(token: str, secret: bytes, execution: str, step: Step) -> None:
    """Raises UnknownToken for one that this log did not make."""
    if not compare_digest(token.encode(), token_for(secret, execution, step).encode()):
        raise UnknownToken("this is no token of this tenant's")
