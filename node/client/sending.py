"""Where an engine is, and when a request to it is sent again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import httpx
import tenacity

from node.client.calls import Call
from node.client.errors import LitefleetError, Unavailable, Unreachable

#: Seconds for which a request is repeated while the engine moves or cannot prove anything.
PATIENCE: Final = 60.0
#: Seconds for which nobody may listen at the address: an engine that starts again is back sooner.
RESTARTS: Final = 3.0
#: Seconds of the longest wait between two tries, where the engine names none.
LONGEST_PAUSE: Final = 5.0
_backing_off: Final = tenacity.wait_random_exponential(multiplier=0.1, max=LONGEST_PAUSE)


@dataclass(frozen=True, slots=True)
class Address:
    """Where an engine answers: what is before its paths, and its socket if it has one."""

    base: str
    socket: str | None = None

    @staticmethod
    def of(url: str) -> Address:
        """From `http://host[/tenant]` or `unix:///path/of/a/socket`. Raises LitefleetError."""
        parts = urlsplit(url)
        if parts.scheme == "unix" and parts.path:
            return Address("http://engine", unquote(parts.path))
        if parts.scheme in ("http", "https") and parts.netloc:
            return Address(url.rstrip("/"))
        raise LitefleetError(
            "bad_address",
            f"{url!r} is no address of an engine",
            "It is like http://127.0.0.1:8787, https://fleet.example/tenant or"
            " unix:///run/engine.sock.",
        )


def headers(token: str | None) -> Mapping[str, str]:
    """What every request carries."""
    return {} if token is None else {"authorization": f"Bearer {token}"}


def policy(
    call: Call[Any], patience: float, on_wait: Callable[[str], None] | None
) -> dict[str, Any]:
    """What tenacity is to do with a call: obey Retry-After, else back off, at most `patience`
    seconds in all. `on_wait` is told why before each pause."""

    def told(state: tenacity.RetryCallState) -> None:
        error = state.outcome and state.outcome.exception()
        if on_wait is not None and isinstance(error, LitefleetError):
            on_wait(error.message)

    return {
        "retry": tenacity.retry_if_exception(lambda error: may_repeat(call, error)),
        "wait": _pause,
        "stop": lambda state: _is_enough(state, patience),
        "before_sleep": told,
        "reraise": True,
    }


def may_repeat(call: Call[Any], error: BaseException) -> bool:
    """Whether a call that ended like this may be sent again."""
    if _never_sent(error):
        return True
    return call.repeatable and isinstance(error, (Unavailable, Unreachable))


def _never_sent(error: BaseException | None) -> bool:
    return isinstance(error, Unreachable) and isinstance(error.__cause__, httpx.ConnectError)


def _is_enough(state: tenacity.RetryCallState, patience: float) -> bool:
    error = state.outcome and state.outcome.exception()
    longest = min(patience, RESTARTS) if _never_sent(error or None) else patience
    return (state.seconds_since_start or 0.0) + state.upcoming_sleep > longest


def _pause(state: tenacity.RetryCallState) -> float:
    error = state.outcome and state.outcome.exception()
    if isinstance(error, Unavailable):
        return error.retry_after
    return _backing_off(state)
