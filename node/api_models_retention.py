"""What the engine's API takes and gives about what its log keeps."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field

from node.api_models import Ack, Asked, Shown, Standing

#: Seconds for which one request to prune begins further batches, at most.
LONGEST_ROUND: Final = 30.0


class DeleteRequest(Asked):
    """Remove an execution from the log."""

    ack: Ack = "durable"


class HoldRequest(Asked):
    """Hold an execution, or release it."""

    reason: Annotated[str, Field(max_length=1000)] = Field(
        default="", description="Why, for who looks at what is held."
    )
    ack: Ack = "durable"


class PruneRequest(Asked):
    """Remove what is due."""

    dry_run: bool = Field(default=False, description="Only say what that would be.")
    seconds: Annotated[float, Field(gt=0, le=LONGEST_ROUND)] = Field(
        default=10.0, description="For how long it begins further batches."
    )
    ack: Ack = "durable"


class Deleted(Standing):
    """The answer to a deletion."""

    id: str
    deleted: bool
    events: int = Field(description="Events that went with it.")


class Held(Standing):
    """The answer to a hold or a release."""

    id: str
    held: bool
    changed: bool = Field(description="False when there was nothing to do.")


class RuleShown(Shown):
    """A rule of retention. Durations are seconds; null: it does not say, or keeps for ever."""

    workflow: str | None
    outcome: str | None
    keep: float | None
    history: float | None
    source: str = Field(description="`application`, or `default` for the tenant's.")


class RoundShown(Shown):
    """What one round has removed."""

    at: float = Field(description="When it began, in unix seconds.")
    executions: int
    histories: int
    events: int
    batches: int
    seconds: float
    trouble: str | None = Field(description="Why it did not come to its end.")


class DueShown(Shown):
    """How many executions and past histories are due."""

    executions: int
    histories: int


class Pruned(Shown):
    """What was removed, or with `dry_run` what would be: how many, and the first of them."""

    dry_run: bool
    executions: int
    histories: int
    named_executions: list[dict[str, Any]] | None = None
    named_histories: list[dict[str, Any]] | None = None
    at: float | None = None
    events: int | None = None
    batches: int | None = None
    seconds: float | None = None
    trouble: str | None = None
    left: DueShown | None = Field(default=None, description="What is due still.")
    durable: bool | None = None
    bookmark: str | None = None


class RetentionShown(Shown):
    """The rules, what was removed so far, and what is next."""

    rules: list[RuleShown]
    executions: int
    histories: int
    events: int
    ranges: int = Field(description="Ranges of events that are missing.")
    held: list[str] = Field(description="The ids of executions that are held.")
    size: int = Field(description="Bytes of the log's file.")
    free: int = Field(description="Bytes of it that are to be used again.")
    last: RoundShown | None = Field(description="The last round of this engine.")
    next_at: float | None = Field(description="When the next one begins, in unix seconds.")
    running: bool
