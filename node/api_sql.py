"""The engine's HTTP API for questions in SQL."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from node.api_answers import Answers
from node.api_models_sql import (
    ColumnShown,
    RelationShown,
    SqlExample,
    SqlGuide,
    SqlRequest,
    SqlRows,
)
from node.api_route import Routes, operation
from node.engine import sql_guide
from node.engine.engine import Engine
from node.engine.errors import ReadersBusy, StatementRefused, StatementTooSlow
from node.engine.sql_guide import Relation

if TYPE_CHECKING:
    from node.engine.sql import Answer

#: Seconds for looking at the tables' names.
BRIEF: Final = 2.0


class SqlApi(Routes):
    """Routes for SQL."""

    def __init__(self, engine: Engine, answers: Answers) -> None:
        self.engine = engine
        self.answers = answers

    @operation(
        "POST",
        "/sql",
        raises=(StatementRefused, StatementTooSlow, ReadersBusy),
        example={"sql": "SELECT status, count(*) AS n FROM executions GROUP BY 1"},
    )
    async def ask_in_sql(self, body: SqlRequest) -> SqlRows:
        """Read the log with one SELECT. It never holds up the engine, and is cut off after its
        time. GET /sql/schema says what there is to ask."""
        found = await self.engine.sql(
            body.sql, body.parameters, rows=body.rows, seconds=body.timeout
        )
        return rows_of(found, self.answers.standing(found.sequence))

    @operation("GET", "/sql/schema", raises=(StatementTooSlow, ReadersBusy))
    async def show_sql_schema(self) -> SqlGuide:
        """What can be asked in SQL: views and the tenant's own tables with their columns, and
        questions with the statements that answer them."""
        tables = await self.engine.read_aside(sql_guide.own_tables, seconds=BRIEF)
        return guide_of(tables)


def rows_of(found: Answer, standing: Mapping[str, Any]) -> SqlRows:
    """What a statement gave, as JSON has it."""
    return SqlRows(
        columns=found.columns,
        rows=[[_shown(value) for value in row] for row in found.rows],
        truncated=found.truncated,
        seconds=found.seconds,
        **standing,
    )


def guide_of(tables: Iterable[Relation]) -> SqlGuide:
    """What can be asked of a log with these tables of its tenant's."""
    examples = [SqlExample(question=question, sql=sql) for question, sql in sql_guide.EXAMPLES]
    return SqlGuide(
        dialect=sql_guide.DIALECT,
        views=[_relation(one) for one in sql_guide.VIEWS],
        tables=[_relation(one) for one in tables],
        examples=examples,
        limits=sql_guide.LIMITS,
    )


def _shown(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    return value


def _relation(one: Relation) -> RelationShown:
    columns = [ColumnShown(name=name, description=about) for name, about in one.columns.items()]
    return RelationShown(name=one.name, description=one.description, columns=columns)
