"""The table of operations in an SQLite file: appended to, read, and never changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from fleet.history_views import OperationView

MOST = 1000
"""Operations on one page."""

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS history(
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    tenant TEXT,
    ended_at REAL NOT NULL,
    outcome TEXT NOT NULL,
    operation TEXT NOT NULL
)""",
    "CREATE INDEX IF NOT EXISTS history_tenant ON history(tenant, n)",
    "CREATE INDEX IF NOT EXISTS history_kind ON history(kind, n)",
    """CREATE TRIGGER IF NOT EXISTS history_stays BEFORE DELETE ON history
    BEGIN SELECT RAISE(ABORT, 'the history is only added to'); END""",
    """CREATE TRIGGER IF NOT EXISTS history_stands BEFORE UPDATE ON history
    BEGIN SELECT RAISE(ABORT, 'the history is only added to'); END""",
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which operations: of a tenant, of a kind, ended at ``since`` (unix seconds) or later.

    ``after`` is the number behind which to begin. With ``newest`` it is the last ``limit`` of them
    and not the first.
    """

    tenant: str | None = None
    kind: str | None = None
    since: float | None = None
    after: int = 0
    limit: int = MOST
    newest: bool = False


class Rows(Protocol):
    """A connection, or the transaction of an activity."""

    def execute(self, sql: str, parameters: tuple[Any, ...] = (), /) -> Iterable[Any]:
        """Run a statement; its rows."""


def prepare(db: Rows) -> None:
    """Create the table where it is not there."""
    for statement in SCHEMA:
        db.execute(statement)


def append(db: Rows, operations: Iterable[OperationView]) -> None:
    """Add operations at the end; one whose id is there already is left as it was recorded."""
    for one in operations:
        db.execute(
            "INSERT INTO history(id, kind, tenant, ended_at, outcome, operation)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT(id) DO NOTHING",
            (
                one.id,
                one.kind,
                one.tenant,
                one.ended_at,
                one.outcome,
                one.model_dump_json(exclude={"n"}, exclude_defaults=True),
            ),
        )


def read(db: Rows, wanted: Wanted) -> list[OperationView]:
    """Operations in the order in which they were recorded; none where there is no table yet."""
    [(there,)] = db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'history'")
    if not there:
        return []
    conditions: list[str] = ["n > ?"]
    values: list[Any] = [wanted.after]
    for words, value in (
        ("tenant = ?", wanted.tenant),
        ("kind = ?", wanted.kind),
        ("ended_at >= ?", wanted.since),
    ):
        if value is not None:
            conditions.append(words)
            values.append(value)
    rows = list(
        db.execute(
            f"SELECT n, operation FROM history WHERE {' AND '.join(conditions)}"
            f" ORDER BY n {'DESC' if wanted.newest else 'ASC'} LIMIT ?",
            (*values, max(1, min(wanted.limit, MOST))),
        )
    )
    if wanted.newest:
        rows.reverse()
    return [
        OperationView.model_validate_json(str(text)).model_copy(update={"n": n}) for n, text in rows
    ]
