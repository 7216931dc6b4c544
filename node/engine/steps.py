"""Steps of an execution: what the code called, and how far the engine is with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from node.engine.definition import Activity
from node.engine.events import Kind, Payload

#: A step of an execution: its name and its occurrence.
Step = tuple[str, int]


class Progress:
    """How far the engine is with a step; it outlives a replay of the code."""

    # Not set for each: most steps leave all but one as it is.

    failures: int = 0
    """Attempts that failed and are in the log."""
    retry_at: int = 0
    """When the next attempt may start, unix milliseconds."""
    began_at: int = 0
    """When the attempt that runs began, unix milliseconds; 0 while none does."""
    sign: int = 0
    """The place in the log of its last failure or heartbeat, or of its intent."""
    error: str | None = None
    """What the last failed attempt left in the log."""
    heartbeat: str | None = None
    """The last progress that a heartbeat gave, as JSON."""
    sequence: int = 0
    """The intent's place in the log, 0 until it is committed."""
    resolved: bool = False
    """Its outcome is in the log, though the code may not have been told."""
    attempt: asyncio.Task[Any] | None = None


@dataclass(slots=True, eq=False)
class Pending:
    """A step that the code has called and that has no outcome yet."""

    name: str
    occurrence: int
    payload: Payload
    """An activity's input, a timer's deadline in unix milliseconds, a child's id and input."""
    kind: Kind
    """The kind of its intent."""
    since: int
    """When the code called it, by the code's time, unix milliseconds."""
    step: Step
    """Its name and occurrence."""
    read: Callable[[str | None], Any] | None = None
    """How its result is read from the log."""
    activity: Activity[Any, Any] | None = None
    future: asyncio.Future[Any] | None = None
    handle: asyncio.TimerHandle | None = None
    progress: Progress = field(default_factory=Progress)


@dataclass(slots=True)
class Command:
    """What the code did: called something, set a timer, gave up on one, answered, or ended."""

    kind: Kind
    name: str
    occurrence: int
    payload: Payload
    pending: Pending | None = None
