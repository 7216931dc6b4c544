"""What the engine's API takes and gives about forks and archives."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from node.api_models import Ack, Asked, ForkedFromShown, Shown, Standing
from node.engine.events import Status
from node.engine.forked import ForkMode


class ForkRequest(Asked):
    """What POST /executions/{id}/fork takes. `at` is a step, such as `charge#2`, or a sequence;
    with `dry_run` nothing is done but said what would be."""

    mode: ForkMode = ForkMode.EXACT
    at: int | str | None = None
    id: str | None = None
    input: dict[str, Any] | None = None
    messages: bool = True
    paused: bool = False
    dry_run: bool = False
    ack: Ack = "durable"


class ImportRequest(ForkRequest):
    """What POST /executions/import takes."""

    archive: dict[str, Any]
    mode: ForkMode = ForkMode.RECORD
    paused: bool = True


class ArchiveQuery(Asked):
    """What GET /executions/{id}/archive takes."""

    children: bool = Field(default=False, description="Whether its children come along.")


class PlannedShown(Shown):
    """What would become of one step."""

    name: str
    occurrence: int
    kind: str
    action: str
    why: str
    certain: bool


class ForkShown(Standing):
    """An execution that was made from another one, with the tokens of the external events that it
    waits for; or, of a dry run, what would become of each step: `ends` says how far that is
    known."""

    id: str | None = None
    workflow: str | None = None
    status: Status | None = None
    paused: bool = False
    forked_from: ForkedFromShown | None = None
    tokens: dict[str, str] = Field(default_factory=dict)
    mode: ForkMode | None = Field(default=None, description="Of a dry run.")
    steps: list[PlannedShown] | None = Field(default=None, description="Of a dry run.")
    ends: str | None = Field(default=None, description="Of a dry run.")
