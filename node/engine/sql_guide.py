"""What can be asked of a log in SQL: its views, what their columns mean, and questions as examples.

For people and for language models, which write better statements when they know what is there.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, cast

import apsw

from node.engine.schema import OWN_PREFIX

DIALECT: Final = (
    "SQLite. Times are text in UTC, as 2026-11-24T09:00:00.000Z: compare them as text, and take"
    " differences with unixepoch(x, 'subsec') in seconds. Payloads are JSON text: read into them"
    " with ->> ."
)
LIMITS: Final = (
    "One SELECT. It is cut off after its timeout (2 s, at most 10), and gives at most `rows` rows"
    " and about 4 MB. Put the newest or the rarest condition first, and a LIMIT at the end."
)


class Relation(NamedTuple):
    """A view or table; what it has, and its columns with what they mean."""

    name: str
    description: str
    columns: dict[str, str]


VIEWS: Final = (
    Relation(
        "executions",
        "Every execution, once.",
        {
            "id": "its id",
            "workflow": "the workflow that it runs",
            "status": "running (also while it is queued), completed, failed, cancelled or"
            " terminated",
            "started_at": "when it last started",
            "closed_at": "when it ended; NULL while it runs",
            "input": "its arguments by name, a JSON object",
            "outcome": "its result as JSON; of a failed one an object with type and message, of a"
            " cancelled or terminated one the reason",
            "version": "what the application that started it called its version, if anything",
            "forked_from": "the id of the execution that it was made from, if any",
            "labels": "its labels, a JSON object: labels ->> 'customer' = 'acme'",
        },
    ),
    Relation(
        "steps",
        "Every activity, timer, child and external event that an execution called.",
        {
            "execution": "the execution's id",
            "step": "the activity's or child's name; (timer) for a sleep",
            "occurrence": "1 for the first call of that name in the execution, then 2, …",
            "status": "completed, failed (for good), fired (a timer), cancelled, abandoned (the"
            " execution ended first) or running",
            "failures": "attempts that failed and were tried again",
            "called_at": "when the code called it",
            "last_event_at": "when it ended, or last was heard of",
            "input": "its arguments as JSON; a timer's deadline in unix milliseconds; of a child"
            " its id and input",
            "outcome": "its result, or its last error, as JSON",
        },
    ),
    Relation(
        "failures",
        "What failed for good: an execution, or a step of one. Quick, however large the log is.",
        {
            "execution": "the execution's id",
            "step": "the step that failed; NULL when it is the execution itself",
            "occurrence": "which call of it",
            "at": "when",
            "type": "the exception's name",
            "message": "what it said",
            "attempts": "how often the step was tried",
            "sequence": "the event, for an order",
        },
    ),
    Relation(
        "waiting",
        "What each open execution waits for; one row for each thing.",
        {
            "execution": "the execution's id",
            "workflow": "the workflow that it runs",
            "waits_for": "activity, timer, child, external (something outside) or message (a"
            " signal, or nothing that is in the log)",
            "step": "the activity's, child's or event's name",
            "occurrence": "which call of it",
            "since": "since when",
            "until": "a timer's deadline",
        },
    ),
    Relation(
        "timeline",
        "Every event of the log, in order of sequence.",
        {
            "sequence": "its number, from 1 without a gap",
            "at": "when it was committed",
            "execution": "the execution's id",
            "event": "its kind: started, step, step_completed, step_failed, step_retry, timer,"
            " timer_fired, signal, completed, failed, …",
            "step": "the step's or message's name, or the workflow's",
            "occurrence": "which call of it",
            "payload": "what it holds, as JSON",
        },
    ),
)

EXAMPLES: Final = (
    (
        "How many executions of each workflow are there, by how they stand?",
        "SELECT workflow, status, count(*) AS n FROM executions GROUP BY 1, 2 ORDER BY 3 DESC",
    ),
    (
        "What failed in the last hour, and why?",
        "SELECT execution, step, type, message, at FROM failures"
        " WHERE at > strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-1 hour') ORDER BY sequence DESC"
        " LIMIT 50",
    ),
    (
        "Which errors are the commonest?",
        "SELECT type, message, count(*) AS n FROM failures GROUP BY 1, 2 ORDER BY n DESC LIMIT 20",
    ),
    (
        "What are the open executions waiting for, and since when?",
        "SELECT waits_for, step, count(*) AS n, min(since) AS oldest FROM waiting"
        " GROUP BY 1, 2 ORDER BY n DESC",
    ),
    (
        "How long do executions of a workflow take?",
        "SELECT round(avg(unixepoch(closed_at, 'subsec') - unixepoch(started_at, 'subsec')), 3)"
        " AS seconds, count(*) AS n FROM executions"
        " WHERE workflow = 'greet' AND status = 'completed'",
    ),
    (
        "Which executions are a customer's?",
        "SELECT x.key AS id FROM litefleet_label l JOIN litefleet_execution x"
        " ON x.id = l.execution WHERE l.name = 'customer' AND l.value = 'acme' LIMIT 100",
    ),
    (
        "What happened in one execution, step by step?",
        "SELECT sequence, at, event, step, occurrence, payload FROM timeline"
        " WHERE execution = 'ada' ORDER BY sequence",
    ),
    (
        "Which steps are tried again most?",
        "SELECT step, sum(failures) AS failures, count(*) AS calls FROM steps"
        " GROUP BY step HAVING sum(failures) > 0 ORDER BY failures DESC LIMIT 20",
    ),
)


def own_tables(db: apsw.Connection) -> list[Relation]:
    """The tables and views that the tenant made, with their columns."""
    known = {view.name for view in VIEWS}
    rows = cast(
        "list[tuple[str, str, str, str]]",
        db.execute(
            "SELECT s.name, s.type, c.name, c.type FROM sqlite_schema s"
            " JOIN pragma_table_info(s.name) c WHERE s.type IN ('table', 'view')"
            " ORDER BY s.name, c.cid"
        ).fetchall(),
    )
    found: dict[str, Relation] = {}
    for name, kind, column, declared in rows:
        if name in known or name.startswith((OWN_PREFIX, "_litestream", "sqlite_")):
            continue
        relation = found.setdefault(name, Relation(name, f"a {kind} of the tenant's own", {}))
        relation.columns[column] = declared.lower()
    return list(found.values())


def columns_of(db: apsw.Connection, name: str) -> list[str]:
    """The columns that a view or table has."""
    rows: Any = db.execute("SELECT name FROM pragma_table_info(?)", (name,)).fetchall()
    return [column for (column,) in rows]
