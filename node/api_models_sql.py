"""What the engine's API takes and gives where it is asked in SQL."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import (
    Field,
)

from node.api_models import Asked, Shown, Standing

#: The longest time that a statement may take, in seconds. A reader that stays keeps the write-ahead
#: log from being folded in, and in the end the writer from writing.
LONGEST_SQL: Final = 10.0


class SqlRequest(Asked):
    """A statement that only reads."""

    sql: str = Field(description="One SELECT.")
    parameters: list[Any] | dict[str, Any] = Field(
        default_factory=list, description="For its ? or :name."
    )
    timeout: Annotated[float, Field(gt=0, le=LONGEST_SQL, description="Seconds.")] = 2.0
    rows: Annotated[int, Field(ge=1, le=100_000, description="How many at most.")] = 1000


class SqlRows(Standing):
    """What a statement gave. A blob is given as {"base64": ...}."""

    columns: list[str]
    rows: list[list[Any]]
    truncated: bool = Field(description="Whether there were more rows, or bytes, than asked for.")
    seconds: float = Field(description="How long it took.")


class ColumnShown(Shown):
    """A column of a view or a table."""

    name: str
    description: str = ""


class RelationShown(Shown):
    """A view or a table."""

    name: str
    description: str = ""
    columns: list[ColumnShown]


class SqlExample(Shown):
    """A question, and the statement that answers it."""

    question: str
    sql: str


class SqlGuide(Shown):
    """What can be asked in SQL."""

    dialect: str
    views: list[RelationShown]
    tables: list[RelationShown] = Field(description="The tenant's own tables.")
    examples: list[SqlExample]
    limits: str
