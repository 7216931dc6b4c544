"""Who sent a webhook: signatures over the raw body, as senders make them.

A check is pure: request, secrets and time go in. Nothing of a request is believed, and none of
its body is parsed, before its check has passed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

from node.engine.errors import DefinitionError, WebhookRefused, WebhookSecretMissing
from node.engine.webhook_request import Request

#: Seconds by which a signed time may differ from ours, unless a check says otherwise.
TOLERANCE: Final = 300.0
_SECONDS: Final = re.compile(r"[0-9]{1,12}")

Algorithm = Literal["sha1", "sha256", "sha384", "sha512"]
Encoding = Literal["hex", "base64"]


class Check(ABC):
    """How the requests of one webhook prove whom they are from."""

    @abstractmethod
    def verify(self, request: Request, environment: Mapping[str, str], now: float) -> None:
        """Let a request pass. `now` in unix seconds.

        Raises WebhookRefused, WebhookSecretMissing.
        """

    def delivery(self, request: Request) -> str | None:
        """What the sender calls this delivery, the same each time that it sends it again; None
        when it says nothing. Asked only after `verify`."""
        return None


class _Secrets(Check):
    """A check with secrets from the environment. Several may be named: while one takes the
    place of another, both are good."""

    def __init__(self, secret_env: str | Sequence[str]) -> None:
        self.secret_env = (secret_env,) if isinstance(secret_env, str) else tuple(secret_env)
        if not self.secret_env or not all(self.secret_env):
            raise DefinitionError("a webhook's check names the variable that holds its secret")

    def secrets(self, environment: Mapping[str, str]) -> list[bytes]:
        """Those that are set. An empty one is none: everybody could sign with it."""
        values = (environment.get(name, "") for name in self.secret_env)
        found = [value.encode() for value in values if value.strip()]
        if not found:
            raise WebhookSecretMissing(f"no secret is set in {' or '.join(self.secret_env)}")
        return found


class Hmac(_Secrets):
    """A signature of the body alone, in a header: `prefix`, then the HMAC in `encoding`.

    Nothing in it says when it was made, so whoever has seen a request can send it again.
    """

    def __init__(
        self,
        header: str,
        *,
        secret_env: str | Sequence[str],
        algorithm: Algorithm = "sha256",
        encoding: Encoding = "hex",
        prefix: str = "",
    ) -> None:
        super().__init__(secret_env)
        if algorithm not in ("sha1", "sha256", "sha384", "sha512"):
            raise DefinitionError("Hmac: the algorithm is sha1, sha256, sha384 or sha512")
        if encoding not in ("hex", "base64"):
            raise DefinitionError("Hmac: the encoding is hex or base64")
        self.header = header
        self.algorithm = algorithm
        self.encoding = encoding
        self.prefix = prefix

    def verify(self, request: Request, environment: Mapping[str, str], now: float) -> None:
        """See Check.verify."""
        keys = self.secrets(environment)
        given = request.header(self.header)
        if not given.startswith(self.prefix):
            raise WebhookRefused(f"the signature in {self.header} is not of the expected form")
        macs = (_mac(key, request.body, self.algorithm) for key in keys)
        written = _hex if self.encoding == "hex" else _base64
        _match([given[len(self.prefix) :]], map(written, macs))


class GitHub(Hmac):
    """GitHub's: X-Hub-Signature-256. Its deliveries are named by X-GitHub-Delivery, which is
    not signed."""

    def __init__(self, *, secret_env: str | Sequence[str]) -> None:
        super().__init__("X-Hub-Signature-256", secret_env=secret_env, prefix="sha256=")

    def delivery(self, request: Request) -> str | None:
        """See Check.delivery."""
        return request.headers.get("x-github-delivery")


class _Timed(_Secrets):
    def __init__(self, *, secret_env: str | Sequence[str], tolerance: float = TOLERANCE) -> None:
        """`tolerance` in seconds: a request that was signed longer ago is refused."""
        super().__init__(secret_env)
        if tolerance <= 0:
            raise DefinitionError("a webhook's tolerance is above 0 seconds")
        self.tolerance = tolerance

    def fresh(self, signed_at: str, now: float) -> None:
        """Raises WebhookRefused for a time that is none, or too far away."""
        if not _SECONDS.fullmatch(signed_at):
            raise WebhookRefused("the signed time is missing or unreadable")
        if abs(now - int(signed_at)) > self.tolerance:
            raise WebhookRefused(f"it was signed more than {self.tolerance:g} s before or after")


class Stripe(_Timed):
    """Stripe's: Stripe-Signature. Its deliveries are named by the event's id."""

    def verify(self, request: Request, environment: Mapping[str, str], now: float) -> None:
        """See Check.verify."""
        keys = self.secrets(environment)
        given = request.header("Stripe-Signature")
        fields = [part.strip().partition("=") for part in given.split(",")]
        times = [value for name, _, value in fields if name == "t"]
        if len(times) != 1:
            raise WebhookRefused("the signed time is missing or unreadable")
        self.fresh(times[0], now)
        signed = times[0].encode() + b"." + request.body
        _match([v for name, _, v in fields if name == "v1"], (_hex(_mac(k, signed)) for k in keys))

    def delivery(self, request: Request) -> str | None:
        """See Check.delivery."""
        return _text(request, "id")


class Slack(_Timed):
    """Slack's: X-Slack-Signature. Deliveries of its Events API are named by the event_id."""

    def verify(self, request: Request, environment: Mapping[str, str], now: float) -> None:
        """See Check.verify."""
        keys = self.secrets(environment)
        given = request.header("X-Slack-Signature")
        signed_at = request.header("X-Slack-Request-Timestamp")
        self.fresh(signed_at, now)
        signed = b"v0:" + signed_at.encode() + b":" + request.body
        _match([given], ("v0=" + _hex(_mac(key, signed)) for key in keys))

    def delivery(self, request: Request) -> str | None:
        """See Check.delivery."""
        return _text(request, "event_id")


class StandardWebhooks(_Timed):
    """The Standard Webhooks specification's symmetric signatures: webhook-id, webhook-timestamp
    and webhook-signature. A secret is base64, with or without `whsec_` before it."""

    def verify(self, request: Request, environment: Mapping[str, str], now: float) -> None:
        """See Check.verify."""
        keys = [_decoded(secret) for secret in self.secrets(environment)]
        id, signed_at = request.header("webhook-id"), request.header("webhook-timestamp")
        self.fresh(signed_at, now)
        signed = f"{id}.{signed_at}.".encode() + request.body
        given = request.header("webhook-signature").split(" ")
        _match(given, ("v1," + _base64(_mac(key, signed)) for key in keys))

    def delivery(self, request: Request) -> str | None:
        """See Check.delivery."""
        return request.headers.get("webhook-id")


class Bearer(_Secrets):
    """The secret itself, as `Authorization: Bearer SECRET`. It proves nothing of the body."""

    def __init__(self, *, secret_env: str | Sequence[str]) -> None:
        super().__init__(secret_env)

    def verify(self, request: Request, environment: Mapping[str, str], now: float) -> None:
        """See Check.verify."""
        keys = self.secrets(environment)
        scheme, _, token = request.header("Authorization").partition(" ")
        if scheme.lower() != "bearer":
            raise WebhookRefused("the header Authorization is not of the form Bearer SECRET")
        _match([token.strip()], (key.decode() for key in keys))


class Unsigned(Check):
    """No check at all: everybody who knows the address may send."""

    def verify(self, request: Request, environment: Mapping[str, str], now: float) -> None:
        """Lets everything pass."""


def _mac(key: bytes, signed: bytes, algorithm: str = "sha256") -> bytes:
    return hmac.new(key, signed, getattr(hashlib, algorithm)).digest()


def _hex(mac: bytes) -> str:
    return mac.hex()


def _base64(mac: bytes) -> str:
    return base64.b64encode(mac).decode()


def _match(given: Iterable[str], good: Iterable[str]) -> None:
    """Raises WebhookRefused unless one of the `given` is `good`. Every pair is compared whole,
    so that the time it takes says nothing."""
    offered = [one.encode() for one in given]
    found = False
    for right in good:
        for one in offered:
            found |= hmac.compare_digest(one, right.encode())
    if not found:
        raise WebhookRefused("the signature or the secret is not the right one")


def _decoded(secret: bytes) -> bytes:
    try:
        key = base64.b64decode(secret.strip().removeprefix(b"whsec_"), validate=True)
    except binascii.Error:
        key = b""
    if not key:
        raise WebhookSecretMissing("the secret is not base64, as Standard Webhooks has it")
    return key


def _text(request: Request, field: str) -> str | None:
    """A field of a JSON body."""
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return None
    body = request.json()
    value = body.get(field) if isinstance(body, dict) else None
    return value if isinstance(value, str) else None
