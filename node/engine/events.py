"""The vocabulary of the execution log: kinds of events and their typed rows."""

from __future__ import annotations

import json
from enum import IntEnum, StrEnum
from typing import Final, NamedTuple

#: What an event carries: JSON text, a deadline in unix milliseconds, or nothing (JSON null).
Payload = str | int | None

#: The step name of a durable timer. No activity can have it: it is not an identifier.
TIMER_STEP: Final = "(timer)"
#: What the names of the engine's own workflows and activities begin with.
RESERVED: Final = "litefleet."


class Kind(IntEnum):
    """What happened. The numbers are the log's format: never reuse one."""

    STARTED = 1
    """An execution begins; name is the workflow, the payload its input."""
    COMPLETED = 2
    """It returned; the payload is its result."""
    FAILED = 3
    """It raised; the payload is the error."""
    CANCELLED = 4
    """It was cancelled, and its code let that happen; the payload is the reason."""
    TERMINATED = 5
    """It was ended from outside, without asking its code; the payload is the reason."""
    CONTINUED = 6
    """It goes on with a new input and an empty history, which begins here (see beginning.py)."""
    ORIGIN = 7
    """Where it comes from, right after its start; the payload has its parent and the version of
    the application, as far as there is one."""
    RESTARTED = 8
    """A closed execution's id is used again; a new history begins here (see beginning.py)."""
    REOPENED = 9
    """A closed execution is tried again: its events from the sequence in the payload up to here
    are void."""
    STEP = 10
    """An activity is called (its intent); the payload is its input."""
    STEP_COMPLETED = 11
    """The activity returned; the payload is its result."""
    STEP_FAILED = 12
    """The activity failed for good; the payload is the error with the number of attempts."""
    STEP_RETRY = 13
    """One attempt failed; the payload has the error, the attempt and when the next may start."""
    STEP_CANCELLED = 14
    """The workflow stopped waiting for the activity."""
    HEARTBEAT = 15
    """The running activity's progress; the payload is what it gave."""
    TIMER = 20
    """A timer is set; the payload is its deadline in unix milliseconds."""
    TIMER_FIRED = 21
    """The deadline has passed."""
    SIGNAL = 30
    """A signal arrived; name is the signal's, the payload its value and its key (see `letter`)."""
    UPDATE = 31
    """An update was accepted; the payload is its input and its key (see `letter`)."""
    UPDATE_COMPLETED = 32
    """The update's handler returned; the payload is its result."""
    UPDATE_FAILED = 33
    """The update's handler raised; the payload is the error."""
    CANCEL = 40
    """It is asked to stop; the payload is the reason."""
    PAUSED = 41
    """It starts no more attempts and sees no more timers; the payload is the reason, if any."""
    RESUMED = 42
    """It goes on."""
    DEQUEUED = 43
    """It has its turn in its queue; the payload has the queue, and the partition if any. Its
    code begins here, unless it had begun before."""
    CHILD = 50
    """A child execution is started; name is its workflow, the payload its id and its input."""
    CHILD_COMPLETED = 51
    """It returned; the payload is its result."""
    CHILD_FAILED = 52
    """It failed, or was cancelled or terminated; the payload says which and why."""
    CHILD_CANCELLED = 53
    """The workflow stopped waiting for the child, which is cancelled."""

    EXTERNAL = 60
    """The code waits for something outside to complete this event by its token."""
    EXTERNAL_COMPLETED = 61
    """Something outside did; the payload is the value it gave."""
    EXTERNAL_CANCELLED = 63
    """The workflow stopped waiting for it."""
    PATCH = 70
    """The code took a new path, and is to take it on every replay; name is the patch's."""
    PINNED = 71
    """It runs only with a version of the application; the payload is the version."""
    UNPINNED = 72
    """It moves to newer versions again."""

    CHUNK = 80
    """The code published to a stream; name is the stream's, the payload its values (see
    `stream.chunk`)."""
    STEP_CHUNK = 81
    """A running activity published to a stream; the payload has the stream and the values."""

    LABELLED = 82
    """The code labelled the execution; the payload has the changed labels (see `labels`)."""
    FORKED = 90
    """An execution begins with what another one had (see forked.py); name is the workflow."""
    KEPT = 91
    """What a fork may take rather than run, right after its origin; name is the workflow."""
    STEP_REUSED = 92
    """The activity is not run: the payload is the result that it had in another execution."""
    STEP_VERSION = 93
    """The version that the activity declares whose result comes next."""


#: What a workflow's code does; a replay must do the same in the same order.
COMMANDS: Final = frozenset(
    {
        Kind.STEP,
        Kind.STEP_CANCELLED,
        Kind.TIMER,
        Kind.UPDATE_COMPLETED,
        Kind.UPDATE_FAILED,
        Kind.CHILD,
        Kind.CHILD_CANCELLED,
        Kind.EXTERNAL,
        Kind.EXTERNAL_CANCELLED,
        Kind.CHUNK,
        Kind.LABELLED,
    }
)
#: What comes from outside, unasked; each name counts its own.
MESSAGES: Final = frozenset({Kind.SIGNAL, Kind.UPDATE})
#: What begins a step, which the same name and number end.
INTENTS: Final = frozenset({Kind.STEP, Kind.TIMER, Kind.CHILD, Kind.EXTERNAL})
#: The code no longer waits for a step.
GIVEN_UP: Final = frozenset({Kind.STEP_CANCELLED, Kind.CHILD_CANCELLED, Kind.EXTERNAL_CANCELLED})
#: A step's good end, with a result.
DONE: Final = frozenset(
    {Kind.STEP_COMPLETED, Kind.STEP_REUSED, Kind.CHILD_COMPLETED, Kind.EXTERNAL_COMPLETED}
)
#: How a step that the code waits for ends.
OUTCOMES: Final = DONE | {Kind.STEP_FAILED, Kind.TIMER_FIRED, Kind.CHILD_FAILED}
#: What happens to a step in between, unseen by the code.
NOTES: Final = frozenset({Kind.STEP_RETRY, Kind.HEARTBEAT, Kind.STEP_CHUNK, Kind.STEP_VERSION})
#: How an accepted update ends.
UPDATE_ENDS: Final = frozenset({Kind.UPDATE_COMPLETED, Kind.UPDATE_FAILED})
#: What a workflow's code is told; a replay tells it the same in the same order.
DELIVERIES: Final = OUTCOMES | MESSAGES | {Kind.CANCEL}
#: What begins a history: nothing before it is replayed.
BEGINNINGS: Final = frozenset({Kind.STARTED, Kind.CONTINUED, Kind.RESTARTED, Kind.FORKED})
#: What ends an execution. Exactly one of them closes each finished execution.
CLOSING: Final = frozenset({Kind.COMPLETED, Kind.FAILED, Kind.CANCELLED, Kind.TERMINATED})
#: Those of them that the code does itself.
ENDINGS: Final = CLOSING - {Kind.TERMINATED}


class Status(StrEnum):
    """Where an execution stands."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TERMINATED = "terminated"
    QUEUED = "queued"
    """It waits for its turn in a queue. The log has it as open."""
    DIVERGED = "diverged"
    """Stopped because its code does not follow its log. The log has it as open: it resumes
    when an engine with fitting code opens it."""
    PARKED = "parked"
    """It waits for the version of the application that it is pinned to. The log has it as open."""


class Reuse(StrEnum):
    """What a start does with an id that is taken."""

    EXISTING = "existing"
    """Give the existing execution, whether it is open or closed."""
    REJECT = "reject"
    """Refuse."""
    IF_FAILED = "if_failed"
    """Begin again when it failed, was cancelled or was terminated."""
    IF_CLOSED = "if_closed"
    """Begin again when it has ended in any way."""
    TERMINATE = "terminate"
    """Begin again in any case; one that is open is terminated first."""


#: The numbers of the log's `status` column.
STATUS_CODES: Final = {
    0: Status.RUNNING,
    1: Status.COMPLETED,
    2: Status.FAILED,
    3: Status.CANCELLED,
    4: Status.TERMINATED,
}
#: The status of an execution of which a part is removed already. It is closed for everybody, and
#: its `closed` is the newest event that is left.
GOING: Final = 5
CLOSED_AS: Final = {Kind.COMPLETED: 1, Kind.FAILED: 2, Kind.CANCELLED: 3, Kind.TERMINATED: 4}
CLOSED_STATUS: Final = {kind: STATUS_CODES[code] for kind, code in CLOSED_AS.items()}


def letter(value: str | None, key: str | None, trace: str | None = None) -> str:
    """The payload of a message: {"v": its JSON value, "k": its idempotency key, "t": the
    `traceparent` it came with}, the last two if any."""
    text = "null" if value is None else value
    more = "" if key is None else f',"k":{json.dumps(key)}'
    if trace is not None:
        more += f',"t":{json.dumps(trace)}'
    return f'{{"v":{text}{more}}}'


def opened(payload: Payload) -> tuple[str, str | None]:
    """The JSON value and the key of a `letter`. Raises ValueError when it is none."""
    body = json.loads(str(payload))
    if not isinstance(body, dict) or "v" not in body or not body.keys() <= {"v", "k", "t"}:
        raise ValueError("a message's payload has a value, and a key or none")
    if not isinstance(body.get("t", ""), str):
        raise ValueError("a message's trace is text")
    key = body.get("k")
    if not (key is None or isinstance(key, str)):
        raise ValueError("a message's key is text")
    return json.dumps(body["v"], separators=(",", ":"), ensure_ascii=False), key


def traced(payload: Payload) -> str | None:
    """The `traceparent` of a `letter`."""
    found = json.loads(str(payload)).get("t")
    return None if found is None else str(found)


class Event(NamedTuple):
    """One row of the log. A tuple, since an engine that opens a log makes very many of them.

    `sequence` counts the log's events from 1 without a gap; `at` is the unix time in
    milliseconds of the commit that holds it, and `commit` that commit's last sequence. What a
    fork has from another execution keeps the times that it had there (see `forked.retimed`).
    """

    sequence: int
    execution: str
    kind: Kind
    name: str
    occurrence: int
    payload: Payload
    at: int
    commit: int
