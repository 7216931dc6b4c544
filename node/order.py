"""What a node is told: the agent's order to its supervisor, the supervisor's to its engine."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from backup.guards import Alert, GuardSettings
from backup.lag import Lag
from backup.ownership import Durability, Origin
from backup.settings import Credentials, StoreSettings
from node.engine.config import BLOB_LIMIT, INLINE_LIMIT
from node.users import Rlimits, Users


class EngineOrder(BaseModel):
    """Everything that an engine process learns. It holds no credential of any store."""

    model_config = ConfigDict(frozen=True)

    tenant: str
    lineage: str
    epoch: int
    app: str = Field(description="the module with the tenant's workflows and activities")
    durability: Durability
    env: dict[str, str]
    database: Path
    api_socket: Path
    supervisor_socket: Path
    authority: Path
    log: Path
    keep_closed: float | None = None
    keep_history: float | None = None
    inline_limit: int = INLINE_LIMIT
    blob_limit: int = BLOB_LIMIT
    kept: tuple[str, ...] = Field(default=(), description="older versions of it, beside it")
    users: Users | None = None
    rlimits: Rlimits = Rlimits()


class CheckOrder(BaseModel):
    """What the process of an upgrade check learns: other code, and the log to replay with it. It
    holds no credential either."""

    model_config = ConfigDict(frozen=True)

    app: str
    kept: tuple[str, ...] = ()
    durability: Durability
    env: dict[str, str]
    database: Path
    users: Users | None = None
    rlimits: Rlimits = Rlimits()


class Tail(BaseModel):
    """A tenant's files that an earlier node left on this host: its epoch and its database."""

    model_config = ConfigDict(frozen=True)

    epoch: int
    database: Path


class NodeOrder(BaseModel):
    """Take over a tenant, or start it for the first time.

    ``expected`` is the ETag of ``owner.json`` on which the decision was made (None: no record
    yet); if the record has changed since, the order is void. ``floor_txid`` is a position of the
    parent epoch that is known to have been proven. ``deadline`` is the first one of the node's
    authority, in seconds of the boot-time clock. ``store`` reaches the records; ``sidecar`` only
    this tenant's replicas, where the store can tell the two apart. ``tail`` is used only if it goes
    on where the bucket ends. ``kept`` are older versions of the application, and ``release`` is
    that of ``tenant.json``. ``origin`` is the past state that the new epoch shall be made of.
    ``users`` are whom the node's processes run as, apart from the supervisor itself; None: as it.
    """

    model_config = ConfigDict(frozen=True)

    tenant: str
    app: str
    durability: Durability
    env: dict[str, str] = Field(default_factory=dict)
    host: str
    incarnation: str
    expected: str | None
    authority_ended: bool
    floor_txid: int = 0
    deadline: float
    store: StoreSettings
    sidecar: Credentials
    tail: Tail | None = None
    keep_closed: float | None = None
    keep_history: float | None = None
    inline_limit: int = INLINE_LIMIT
    blob_limit: int = BLOB_LIMIT
    kept: tuple[str, ...] = ()
    release: int = 0
    guards: GuardSettings = GuardSettings()
    users: Users | None = None
    rlimits: Rlimits = Rlimits()
    origin: Origin | None = None


class NodeState(StrEnum):
    """Where a node is. The last five are ends: its process exits after them."""

    STARTING = "starting"
    RESTORING = "restoring"
    ACTIVE = "active"
    DRAINING = "draining"
    RELEASED = "released"
    FENCED = "fenced"
    SUPERSEDED = "superseded"
    DAMAGED = "damaged"
    FAILED = "failed"


ENDED = frozenset(
    {
        NodeState.RELEASED,
        NodeState.FENCED,
        NodeState.SUPERSEDED,
        NodeState.DAMAGED,
        NodeState.FAILED,
    }
)


class Phases(BaseModel):
    """Seconds that each phase of a takeover took."""

    claim: float = 0.0
    fetch: float = 0.0
    verify: float = 0.0
    start: float = 0.0

    @property
    def total(self) -> float:
        return self.claim + self.fetch + self.verify + self.start


class NodeStatus(BaseModel):
    """What a supervisor says of its node. ``version`` grows with every change of state. ``rest``
    is a number while its engine has nothing to do, another one after each time that it had, and
    ``next_wake`` when time alone will give it something then, in unix seconds."""

    tenant: str
    state: NodeState = NodeState.STARTING
    version: int = 0
    host: str = ""
    incarnation: str = ""
    epoch: int = 0
    lineage: str = ""
    parent_epoch: int | None = None
    app: str = ""
    kept: tuple[str, ...] = ()
    release: int = 0
    durability: Durability = "async"
    lag: Lag = Lag()
    phases: Phases = Phases()
    serving: bool = False
    serving_since: float | None = None
    rest: int | None = None
    next_wake: float | None = None
    executions: dict[str, int] = Field(default_factory=dict)
    detail: str = ""
    api_socket: str = ""
    database: str = ""
    engine_restarts: int = 0
    sidecar_restarts: int = 0
    incidents: list[str] = Field(default_factory=list)
    alerts: list[Alert] = Field(default_factory=list)
    pids: dict[str, int] = Field(default_factory=dict)
