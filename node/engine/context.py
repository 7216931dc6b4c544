"""What code can ask about where it runs: inside which workflow, which attempt of which step."""

from __future__ import annotations

from base64 import b32hexencode
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from random import Random
from typing import Any, Protocol

from node.engine.errors import NotInActivity
from node.engine.pulse import Pulse


@dataclass(frozen=True, slots=True)
class WorkflowInfo:
    """The running execution: its id, its workflow's name, when it started, whose log it is in.

    `schedule` is the id of the schedule that started it, and `scheduled_at` the time in UTC that
    it is for, which may be long before it started; both None for any other.
    """

    id: str
    workflow: str
    started_at: datetime
    tenant: str
    lineage: str
    schedule: str | None = None
    scheduled_at: datetime | None = None


class Transaction(Protocol):
    """The transaction that also commits the running activity's result."""

    def execute(
        self, sql: str, parameters: Sequence[Any] | dict[str, Any] = (), /
    ) -> Iterator[tuple[Any, ...]]:
        """Run one or more statements; the rows they return.

        Raises apsw.Error. Transaction control, PRAGMA, ATTACH and VACUUM are refused, and so
        is writing to the log's own tables.
        """


@dataclass(slots=True)
class ActivityInfo:
    """The running attempt. `attempt` counts from 1; `occurrence` counts the calls of this step
    in its execution from 1. `idempotency_key` is the same for every attempt of the same call,
    on whichever host it runs."""

    execution: str
    workflow: str
    step: str
    occurrence: int
    attempt: int
    lineage: str = field(repr=False)
    transaction: Transaction | None = field(default=None, repr=False)
    pulse: Pulse | None = field(default=None, repr=False)

    @property
    def about(self) -> dict[str, object]:
        """What a record that the code logs says of it; see `lines.FIELDS`."""
        return {
            "execution": self.execution,
            "workflow": self.workflow,
            "step": self.step,
            "occurrence": self.occurrence,
            "attempt": self.attempt,
        }

    @property
    def idempotency_key(self) -> str:
        """32 hex digits that name this call of this step for ever."""
        return idempotency_key(self.lineage, self.execution, self.step, self.occurrence)


def idempotency_key(lineage: str, execution: str, step: str, occurrence: int) -> str:
    """32 hex digits that name one call of one step for ever."""
    parts = (lineage, execution, step, str(occurrence))
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return blake2b(text.encode(), digest_size=16, person=b"idempotency").hexdigest()


def new_id(at: int, random: Random) -> str:
    """The id of an execution that was not given one: 16 digits of base 32, the first half when it
    was started (`at`, unix milliseconds), the rest random.

    In the order of time, so that in a log of very many executions the index of ids grows at its
    end, instead of changing a page somewhere else, to be replicated, with every start.
    """
    value = (at % 2**40) << 40 | random.getrandbits(40)
    return b32hexencode(value.to_bytes(10, "big")).decode().lower()


def child_id(parent: str, workflow: str, number: int) -> str:
    """The id of a child that was not given one."""
    id = f"{parent}.{workflow}.{number}"
    if len(id) <= 200:
        return id
    return blake2b(id.encode(), digest_size=16, person=b"child").hexdigest()


def seed(lineage: str, execution: str, run: int = 1) -> int:
    """The seed of an execution's random numbers; `run` counts its histories from 1."""
    parts = (lineage, execution) if run == 1 else (lineage, execution, str(run))
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=16, person=b"random").digest())


#: Set for the length of an attempt, in the attempt's own context.
current_activity: ContextVar[ActivityInfo] = ContextVar("current_activity")


def activity_info() -> ActivityInfo:
    """The running attempt. Raises NotInActivity."""
    try:
        return current_activity.get()
    except LookupError:
        raise NotInActivity("activity.info() was called outside of an activity") from None
