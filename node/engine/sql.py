"""Statements from outside, on the log: they read, and nothing else, and not for long."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import apsw

from node.engine.aside import cut_off
from node.engine.errors import StatementRefused

Parameters = Sequence[Any] | Mapping[str, Any]
#: Bytes that a statement's rows may have together, about.
MOST_BYTES: Final = 4 * 1024 * 1024
#: Bytes of a statement.
LONGEST: Final = 100_000
#: Bytes of the longest value that SQLite may make on the way.
LARGEST_VALUE: Final = 64 * 1024 * 1024
#: What tokens are made with is in here.
SECRET: Final = frozenset({"litefleet_meta"})
#: Functions that give a table, and read nothing but what they are given, or the schema.
_HARMLESS: Final = frozenset({"json_each", "json_tree", "generate_series"})
_PRAGMAS: Final = frozenset(
    {"table_info", "table_xinfo", "table_list", "index_list", "index_info", "foreign_key_list"}
)
_ALLOWED: Final = frozenset({apsw.SQLITE_SELECT, apsw.SQLITE_RECURSIVE})
#: What an unfit statement, or unfit parameters, make apsw raise.
_REFUSED: Final = (
    apsw.SQLError,
    apsw.AuthError,
    apsw.BindingsError,
    apsw.RangeError,
    apsw.TooBigError,
    apsw.MismatchError,
    apsw.ReadOnlyError,
    KeyError,
    TypeError,
)
#: Functions that reach beyond the log.
_FORBIDDEN: Final = frozenset({"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"})


@dataclass(frozen=True, slots=True)
class Answer:
    """What a statement gave. `sequence` is the newest event that it saw, `truncated` says that
    there was more than it may give."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
    truncated: bool
    seconds: float
    sequence: int


def ask(
    db: apsw.Connection,
    sql: str,
    parameters: Parameters = (),
    *,
    rows: int,
    seconds: float,
    size: int = MOST_BYTES,
    timer: Callable[[], float] = time.monotonic,
) -> Answer:
    """Run one SELECT on a connection that is for nothing else and is closed after it; give at
    most so many `rows`, of about `size` bytes together.

    Raises StatementRefused for what does not read, or not what may be read; StatementTooSlow.
    """
    begun = timer()
    db.limit(apsw.SQLITE_LIMIT_LENGTH, LARGEST_VALUE)
    db.limit(apsw.SQLITE_LIMIT_SQL_LENGTH, LONGEST)
    db.limit(apsw.SQLITE_LIMIT_ATTACHED, 0)
    # In one transaction with the statement: the bookmark is exactly what it saw.
    db.execute("BEGIN")
    try:
        found: Any = db.execute("SELECT coalesce(max(sequence), 0) FROM litefleet_event").fetchall()
        modules: Any = db.execute("SELECT lower(name) FROM pragma_module_list").fetchall()
        db.authorizer = _Reader(frozenset(name for (name,) in modules))
        columns, given, more = cut_off(
            db, lambda db: _given(db, sql, parameters, rows, size), seconds, timer
        )
    except _REFUSED as error:
        raise StatementRefused(_why(error)) from None
    finally:
        db.authorizer = None
        db.execute("ROLLBACK")
    return Answer(columns, given, more, timer() - begun, found[0][0])


def _given(
    db: apsw.Connection, sql: str, parameters: Parameters, most: int, size: int
) -> tuple[list[str], list[tuple[Any, ...]], bool]:
    # Most engines are never asked anything, and it is large.
    from apsw.ext import query_info

    about = query_info(db, sql)
    rest = about.query_remaining
    # A comment is no statement.
    if rest is not None and query_info(db, rest).has_vdbe:
        raise StatementRefused("there is more than one statement")
    if not about.is_readonly:
        raise StatementRefused("it does not only read")
    if not about.description:
        raise StatementRefused("it gives no rows")
    # A cursor of its own: what is left of it is closed before the transaction ends.
    cursor = db.cursor()
    given: list[tuple[Any, ...]] = []
    total, more = 0, False
    try:
        for row in cursor.execute(about.first_query, _bound(parameters)):
            total += sum(_size(value) for value in row)
            if len(given) >= most or total > size:
                more = True
                break
            given.append(tuple(row))
    finally:
        cursor.close(force=True)
    return [column[0] for column in about.description], given, more


class _Reader:
    """Says what a statement may do: read what is not secret. `modules` are the kinds of virtual
    tables that there are, of which some show more than rows: whole pages, for one."""

    def __init__(self, modules: frozenset[str]) -> None:
        self._hidden = (modules - _HARMLESS) | SECRET

    def __call__(
        self, action: int, one: str | None, two: str | None, _db: str | None, _by: str | None
    ) -> int:
        if action in _ALLOWED:
            return apsw.SQLITE_OK
        if action == apsw.SQLITE_FUNCTION:
            refused = (two or "").lower() in _FORBIDDEN
            return apsw.SQLITE_DENY if refused else apsw.SQLITE_OK
        if action == apsw.SQLITE_PRAGMA:
            # As in pragma_table_info('executions'); the argument names a table.
            return apsw.SQLITE_OK if (one or "").lower() in _PRAGMAS else apsw.SQLITE_DENY
        if action == apsw.SQLITE_READ:
            table = (one or "").lower()
            if table.startswith("pragma_"):
                hidden = table.removeprefix("pragma_") not in _PRAGMAS
            else:
                hidden = table in self._hidden
            return apsw.SQLITE_DENY if hidden else apsw.SQLITE_OK
        return apsw.SQLITE_DENY


def _bound(parameters: Parameters) -> Any:
    return dict(parameters) if isinstance(parameters, Mapping) else tuple(parameters)


def _size(value: Any) -> int:
    return len(value) if isinstance(value, (str, bytes)) else 8


def _why(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"there is no parameter {error}"
    text = str(error).removeprefix("SQLError: ")
    return "that may not be done here: one can only read" if text == "not authorized" else text
