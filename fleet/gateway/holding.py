"""What to do with a request: send it, hold it, or answer that it cannot be done. Pure."""

from __future__ import annotations

from dataclasses import dataclass

AGAIN = 0.25
"""Seconds before a request is sent again to a node that it could not reach."""


@dataclass(frozen=True, slots=True)
class Way:
    """Where a tenant's node answers: at ``server``, a URL without a path or ``unix:`` and a
    socket's, below ``prefix``. ``headers`` are for who answers there."""

    server: str
    prefix: str
    epoch: int
    incarnation: str = ""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a tenant stands. ``way`` is None while nobody serves it; ``coming``: somebody will,
    without more being done than what is under way, or what asking for it sets off. ``epoch`` is the
    newest that was seen; what an older one says does not count. ``why`` is for people."""

    way: Way | None
    epoch: int
    coming: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class Tried:
    """An attempt to send that has failed. ``sent``: the node may have got it, or parts of it.
    ``again_at`` is when the same way may be tried again."""

    way: Way
    sent: bool
    again_at: float


@dataclass(frozen=True, slots=True)
class Send:
    """Send it this way."""

    way: Way


@dataclass(frozen=True, slots=True)
class Hold:
    """Hold it until something changes, at most so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Answer that it cannot be done now. ``retry_after`` is in seconds."""

    retry_after: int


def judge(
    standing: Standing, tried: Tried | None, *, repeatable: bool, now: float, until: float
) -> Send | Hold | GiveUp:
    """What to do next with a request.

    Args:
        tried: how the last attempt ended, None before the first.
        repeatable: sending it twice has no more effect than sending it once.
        until: when it has been held for long enough, by the clock of ``now``.
    """
    if tried is not None and tried.sent and not repeatable:
        return GiveUp(1)  # nobody knows what the first did
    if standing.way is not None and standing.way.epoch >= standing.epoch:
        if tried is None or standing.way != tried.way or now >= tried.again_at:
            return Send(standing.way) if now < until or tried is None else GiveUp(1)
        return Hold(min(tried.again_at, until) - now) if now < until else GiveUp(1)
    if not standing.coming:
        return GiveUp(30)  # not before somebody has done something about it
    return Hold(until - now) if now < until else GiveUp(2)
