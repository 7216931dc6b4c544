"""What the fleet's HTTP API shows: one model for each thing, shared by server and client.

All moments are UNIX seconds, all durations are seconds. Unknown fields are
ignored on reading, so an older client can talk to a newer coordinator.
"""

from __future__ import annotations

from typing import Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from backup.limits import RequestLimits

Durability = Literal["async", "before_effects", "every_commit"]
TenantState = Literal[
    "pending",
    "restoring",
    "active",
    "draining",
    "released",
    "asleep",
    "damaged",
    "lost",
    "deleted",
]
ExecutionStatus = Literal[
    "running", "completed", "failed", "cancelled", "terminated", "queued", "diverged", "parked"
]
DeletionPhase = Literal["stopping", "kept", "purging", "purged"]
HostState = Literal["live", "suspect", "fenced"]
Item = TypeVar("Item")


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


class DeletionView(View):
    """A tenant's deletion: how far it is. All moments are UNIX seconds by the store's clock."""

    tenant: str
    number: int = Field(description="counts the deletions under this name; that of the receipt")
    phase: DeletionPhase = Field(
        description="`stopping`; `kept`, until `purge_after`, to be brought back; `purging`, from "
        "where there is no way back; `purged`"
    )
    asked_at: float
    purge_after: float
    by: str = ""
    why: str = ""
    hold: bool = Field(default=False, description="on hold: nothing of it is removed")
    blocked: str = Field(default="", description="why it is not purged though its time has come")
    removed: int = Field(default=0, description="objects removed so far, while it is purged")
    purged_at: float | None = None


class TenantView(View):
    """One tenant: what it should be, where it is, and how far its log is proven."""

    name: str
    app: str
    kept: list[str] = Field(default_factory=list, description="older versions beside it")
    release: int = Field(default=0, description="how often its application was changed")
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
    lag_bytes: int | None = Field(
        default=None, description="bytes of the WAL that are not in the bucket; null: unknown"
    )
    proven_at: float | None = None
    alerts: list[AlertView] = Field(default_factory=list)
    recoveries: list[Recovery] = Field(default_factory=list)
    hold: bool = Field(default=False, description="none of its epochs is removed")
    asleep: bool = Field(default=False, description="it shall not run until it is woken")
    next_wake: float | None = Field(
        default=None, description="when a timer wakes it, while it sleeps, UNIX seconds"
    )
    sleep_after: float | None = Field(
        default=None,
        description="seconds with nothing to do after which it is put to sleep; 0: never; null: "
        "as the fleet's settings say",
    )
    limits: RequestLimits | None = Field(
        default=None, description="of the requests to it; null: as the fleet's settings say"
    )
    origin: str | None = Field(
        default=None, description="`tenant epoch:sequence`: the state that its epoch was made of"
    )
    deletion: DeletionView | None = Field(default=None, description="that it shall be deleted")


class CopyView(View):
    """An independent copy of a tenant's database in the bucket. `size` and `packed` in bytes. `key`
    is the id of the key that it is sealed under, null for one that is not."""

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
    key: str | None = None


class CopyList(View):
    """A tenant's copies, oldest first."""

    items: list[CopyView]


class EpochView(View):
    """An epoch of a tenant's that is in the bucket, and whether its data goes, with the reason."""

    tenant: str
    epoch: int
    goes: bool
    reason: str
    objects: int
    bytes: int


class EpochList(View):
    """The epochs of a tenant, oldest first. With `hold` none of them is removed."""

    items: list[EpochView]
    hold: bool


class HoldView(View):
    """Whether a tenant is on hold, and whether this request has changed that."""

    tenant: str
    hold: bool
    changed: bool


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


class LoadView(View):
    """What a host said of itself when it renewed its lease."""

    nodes: int = 0
    restoring: int = 0
    cpus: int = 0
    cpu_used: float | None = None
    memory_bytes: int = 0
    memory_available: int | None = None
    disk_free: int | None = None


class HostView(View):
    """One host: its authority (lease), the tenants that live on it, and what it has left."""

    name: str
    state: HostState
    incarnation: str | None = None
    address: str | None = None
    tenants: list[str] = Field(default_factory=list)
    lease_age_seconds: float | None = None
    load: LoadView = Field(default_factory=LoadView)
    cordoned: bool = Field(default=False, description="it is given no more tenants")
    draining: bool = Field(default=False, description="its tenants move to other hosts")
    why: str = Field(default="", description="what the operator said who cordoned it")


class MoveView(View):
    """How far the last move of a tenant is. `unavailable_seconds` is for how long nothing served
    it, null where this coordinator has not seen both ends."""

    tenant: str
    state: Literal["none", "moving", "done"]
    from_host: str | None = None
    to_host: str | None = None
    wanted_host: str | None = None
    asked_at: float | None = None
    unavailable_seconds: float | None = None
    epoch: int = 0


class TenantChange(View):
    """The body of `PATCH /api/tenants/{name}`: what is not given stays, null is the fleet's own."""

    model_config = ConfigDict(extra="forbid")

    limits: RequestLimits | None = None
    sleep_after: float | None = Field(default=None, ge=0)


class MoveWanted(View):
    """The body of `POST /api/tenants/{name}/move`; no host: any other than now."""

    model_config = ConfigDict(extra="forbid")

    host: str | None = None


class CordonWanted(View):
    """The body of `PUT /api/hosts/{name}/cordon`."""

    model_config = ConfigDict(extra="forbid")

    drain: bool = False
    why: str = ""


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
    lag_bytes: int | None = None
    proven_at: float | None = None
    alerts: list[AlertView] = Field(default_factory=list)


class CoordinatorView(View):
    """A coordinator whose lease lives. The active one owns the coordinator's log, at `epoch`; the
    others wait to take over."""

    name: str
    address: str
    active: bool
    epoch: int = 0
    lease_age_seconds: float = 0.0
    detail: str = Field(default="", description="what is not well, where it is known")


class CoordinatorList(View):
    """The coordinators of the fleet."""

    items: list[CoordinatorView]


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


class UpgradeWanted(View):
    """The body of `POST /api/tenants/{name}/upgrade`.

    Without `app` it is the application that is wanted already, loaded again; without `keep`, the
    older versions beside it stay. `check` changes nothing. `stopped` says what becomes of the
    executions that would not go on: they stop the upgrade, are pinned to the version that runs
    them now, or are left to stand still.
    """

    app: str | None = None
    keep: list[str] | None = None
    check: bool = False
    stopped: Literal["refuse", "pin", "force"] = "refuse"


class ErrorBody(View):
    """What went wrong, and what to do about it."""

    type: str
    message: str
    hint: str | None = None


class UpgradeView(View):
    """An upgrade, or only its check: how far it is, and what came of it."""

    tenant: str
    state: Literal["checking", "pinning", "restarting", "done", "refused", "failed"] = "checking"
    app: str
    kept: list[str] = Field(default_factory=list)
    release: int = Field(default=0, description="of the wanted state once it was changed, or 0")
    check: bool = False
    done: int = Field(default=0, description="executions that were replayed")
    of: int = Field(default=0, description="executions that were open")
    report: dict[str, Any] | None = Field(
        default=None, description="as `node.engine.upgrade.UpgradeReport` has it"
    )
    left_out: int = Field(default=0, description="findings that the report leaves out")
    would_stop: int = Field(default=0, description="executions that go on now and would not")
    stopped_before: int = Field(default=0, description="those that stand still already")
    pinned: int = Field(default=0, description="executions that were pinned")
    versions: list[dict[str, Any]] = Field(
        default_factory=list, description="as `GET /versions` had them afterwards"
    )
    stopped: int = Field(default=0, description="executions that stand still afterwards")
    problem: ErrorBody | None = None

    @property
    def over(self) -> bool:
        return self.state in ("done", "refused", "failed")


class RestoreWanted(View):
    """The body of `POST /api/tenants/{name}/restore`: one of a time (unix seconds), a bookmark
    (`epoch:sequence`), or `undo` of the last restore. `check` only restores it somewhere harmless
    and says what it is."""

    at: float | None = None
    bookmark: str | None = Field(default=None, pattern=r"^\d+:\d+$")
    undo: bool = False
    check: bool = False

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.at is not None) + (self.bookmark is not None) + self.undo != 1:
            raise ValueError("name one of at, bookmark and undo")
        return self


class ForkWanted(View):
    """The body of `POST /api/tenants/{name}/forks`: the new tenant's `name`, and a time (unix
    seconds) or a bookmark (`epoch:sequence`); without either, the newest state in the bucket."""

    name: str
    at: float | None = None
    bookmark: str | None = Field(default=None, pattern=r"^\d+:\d+$")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.at is not None and self.bookmark is not None:
            raise ValueError("name at or bookmark, not both")
        return self


class RestoreView(View):
    """A restore in place, a fork, or only its rehearsal: how far it is, and what came of it.

    `bookmark` is the last event of the state that was chosen, which was taken at `at` and whose
    last commit was at `committed_at` (unix seconds); `epoch` and `txid` are its position. `left` is
    the epoch that the tenant had before, and `new_epoch` the one that it has now.
    """

    tenant: str
    state: Literal["rehearsing", "stopping", "restoring", "done", "refused", "failed"] = (
        "rehearsing"
    )
    source: str | None = Field(default=None, description="the tenant that is forked")
    check: bool = False
    number: int = Field(default=0, description="counts the tenant's restores")
    epoch: int = 0
    txid: int = 0
    bookmark: str | None = None
    at: float | None = None
    committed_at: float | None = None
    executions: dict[str, int] = Field(default_factory=dict)
    bytes: int = 0
    rehearsal_seconds: float | None = None
    left: int | None = None
    new_epoch: int | None = None
    problem: ErrorBody | None = None

    @property
    def over(self) -> bool:
        return self.state in ("done", "refused", "failed")


class ErrorView(View):
    """Every answer of the API that is not a success."""

    error: ErrorBody
    outcome: Literal["unknown", "not_sent"] | None = None


class Page(View, Generic[Item]):
    """Some of many items. `next` is the `after` of the next page, None after the last."""

    items: list[Item]
    next: str | None = None


class TenantList(Page[TenantView]):
    """Tenants."""


class HostList(Page[HostView]):
    """Hosts."""


class LagList(Page[LagView]):
    """How far tenants lag."""


class Timeline(Page[TimelineEntry]):
    """A part of the timeline."""


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


class ExecutionList(Page[ExecutionView]):
    """Executions."""


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
