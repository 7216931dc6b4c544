"""Who asks for what is being done, and why, as far as they say."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from urllib.parse import unquote

from starlette.requests import Request

from fleet.history_views import BY_HEADER, WHY_HEADER

ITSELF = "coordinator"


@dataclass(frozen=True, slots=True)
class Asked:
    """By whom, and why. What a client says of itself is not proven."""

    by: str = ITSELF
    why: str = ""


_asked: ContextVar[Asked | None] = ContextVar("asked", default=None)


def asked() -> Asked:
    """Who asked for what this task does. Tasks that it begins have it too."""
    return _asked.get() or Asked()


def note_asker(request: Request) -> None:
    """Have `asked` name whoever sent this request, for the rest of its task."""
    by, why = (unquote(request.headers.get(name, "")) for name in (BY_HEADER, WHY_HEADER))
    _asked.set(Asked(by[:200] or "somebody with the token", why[:1000]))
