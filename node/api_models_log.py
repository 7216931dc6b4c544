"""What the engine's API takes and gives about what was logged."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from node.api_models import Asked, Shown


class LogQuery(Asked):
    """What GET /log takes. `level` is the least one; `after` the `next` of an answer before."""

    execution: str | None = None
    level: Literal["debug", "info", "warning", "error", "critical"] | None = None
    limit: Annotated[int, Field(ge=1, le=5000)] = 200
    after: Annotated[str | None, Field(pattern=r"^\d+:\d+$")] = None


class LogPage(Shown):
    """Some lines. `next` is the `after` of the next question."""

    items: list[dict[str, Any]]
    next: str | None
