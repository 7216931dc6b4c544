"""What the fleet's HTTP API shows: one model for each thing, shared by server and client.

All moments are UNIX seconds, all durations are seconds. Unknown fields are
ignored on reading, so an older client can talk to a newer coordinator.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Durability = Literal["async", "before_effects", "every_commit"]
TenantState = Literal[
    "pending", "restoring", "active", "draining", "released", "damaged", "lost", "deleted"
]
ExecutionStatus = Literal["running", "completed", "failed", "cancelled", "terminated", "diverged"]
HostState = Literal["live", "suspect", "fenced"]


class View(BaseModel):
    """Base of everything that the API shows."""

    model_config = ConfigDict(extra="ignore")


class Executions(View):
    """How many executions of a tenant are in each state."""

    running: int = 0
    completed: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        return self.running + self.completed + self.failed


class RecoverySplit(View):
    """Where the seconds of one recovery went; their sum is its `rto_seconds`."""

    detect: float = 0.0
    fence: float = 0.0
    claim: float = 0.0
    fetch: float = 0.0
    verify: float = 0.0
    start: float = 0.0

    @property
    def total(self) -> float:
        return self.detect + self.fence + self.claim + self.fetch + self.verify + self.start

    @property
    def after_detection(self) -> float:
        """Seconds from the moment the loss was known to the tenant serving again."""
        return self.total - self.detect


class Recovery(View):
    """One tenant brought back on another host."""

    tenant: str
    from_host: str | None = None
    to_host: str
    from_epoch: int
    epoch: int
    cause: str
    at: float = Field(description="when the tenant served again, UNIX seconds")
    rto_seconds: float
    split: RecoverySplit = Field(default_factory=RecoverySplit)


class AlertView(View):
    """A guard of a tenant's node that is not content."""

    guard: str
    since: float
    text: str
    action: str = "none"


class TenantView(View):
    """One tenant: what it should be, where it is, and how far its log is proven."""

    name: str
    app: str
    durability: Durability
    state: TenantState
    host: str | None = None
    epoch: int = 0
    lineage: str | None = None
    serving: bool = Field(default=False, description="its engine answers requests")
    detail: str = Field(default="", description="why it is not well, where that is known")
    executions: Executions = Field(default_factory=Executions)
    sequence: int = 0
    proven_sequence: int | None = None
    txid: int | None = None
    replicated_txid: int | None = None
    lag_seconds: float | None = Field(
        default=None, description="0.0: nothing is unreplicated; null: unknown"
    )
    lag_txids: int | None = None
    proven_at: float | None = None
    alerts: list[AlertView] = Field(default_factory=list)
    recoveries: list[Recovery] = Field(default_factory=list)


class CopyView(View):
    """An independent copy of a tenant's database in the bucket. `size` and `packed` in bytes."""

    tenant: str
    name: str
    bookmark: str
    lineage: str
    epoch: int
    sequence: int
    chain: str
    made_at: float
    sha256: str
    size: int
    packed: int


class CopyList(View):
    """A tenant's copies, oldest first."""

    items: list[CopyView]


class DrillView(View):
    """One drill: a tenant's backup restored somewhere harmless and compared with its source."""

    tenant: str
    began_at: float
    ok: bool
    finding: str = ""
    bookmark: str = ""
    epoch: int = 0
    txid: int = 0
    sequence: int = 0
    committed_at: float | None = None
    compared: bool = Field(default=False, description="with the live log, by its hash chain")
    behind_seconds: float | None = Field(
        default=None, description="what the loss of its host would have cost when it began"
    )
    seconds: float = 0.0
    fetch: float = 0.0
    verify: float = 0.0
    files: int = 0
    bytes: int = 0
    host: str = ""


class DrillsView(View):
    """A tenant's drills, oldest first, and when the last good one began (UNIX seconds)."""

    tenant: str
    verified_at: float | None = None
    drills: list[DrillView] = Field(default_factory=list)


class DrillsList(View):
    """The drills of all tenants."""

    items: list[DrillsView]


class HostView(View):
    """One host: its authority (lease) and the tenants that live on it."""

    name: str
    state: HostState
    incarnation: str | None = None
    address: str | None = None
    tenants: list[str] = Field(default_factory=list)
    lease_age_seconds: float | None = None


class LagView(View):
    """How far a tenant's replica is behind its log."""

    tenant: str
    host: str | None = None
    epoch: int = 0
    sequence: int = 0
    proven_sequence: int | None = None
    txid: int | None = None
    replicated_txid: int | None = None
    lag_txids: int | None = None
    lag_seconds: float | None = None
    proven_at: float | None = None
    alerts: list[AlertView] = Field(default_factory=list)


class TimelineEntry(View):
    """One thing that the coordinator noticed or did."""

    n: int
    at: float
    kind: str
    tenant: str | None = None
    host: str | None = None
    text: str
    data: dict[str, Any] = Field(default_factory=dict)


class TenantWanted(View):
    """The body of `POST /api/tenants`."""

    name: str
    app: str
    durability: Durability = "async"
    env: dict[str, str] = Field(default_factory=dict)


class ErrorBody(View):
    """What went wrong, and what to do about it."""

    type: str
    message: str
    hint: str | None = None


class ErrorView(View):
    """Every answer of the API that is not a success."""

    error: ErrorBody
    outcome: Literal["unknown"] | None = None


class TenantList(View):
    items: list[TenantView]
    next: str | None = None


class HostList(View):
    items: list[HostView]
    next: str | None = None


class LagList(View):
    items: list[LagView]
    next: str | None = None


class Timeline(View):
    items: list[TimelineEntry]
    next: str | None = None


class Started(View):
    """The answer to a start: `durable` says whether the bucket provably holds it.

    `bookmark` is `epoch:sequence`, the point in the log that holds the start.
    """

    id: str
    workflow: str
    status: str
    durable: bool
    bookmark: str


class ExecutionView(View):
    """One execution as a list shows it."""

    id: str
    workflow: str
    status: ExecutionStatus


class ExecutionList(View):
    items: list[ExecutionView]
    next: str | None = None


class Outcome(View):
    """The result of an execution as far as it is known."""

    id: str
    status: ExecutionStatus
    result: Any = None
    error: Any = None
    durable: bool = False
    bookmark: str | None = None


class Bookmark(View):
    """`epoch:sequence`: a point in a lineage."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    epoch: int
    sequence: int

    @classmethod
    def parse(cls, text: str) -> Bookmark:
        """Read `epoch:sequence`. Raises ValueError when the text is something else."""
        epoch, separator, sequence = text.partition(":")
        if not separator or not epoch.isdigit() or not sequence.isdigit():
            raise ValueError(f"a bookmark is written epoch:sequence, not {text!r}")
        return cls(epoch=int(epoch), sequence=int(sequence))

    def __str__(self) -> str:
        return f"{self.epoch}:{self.sequence}"
