"""What the fleet's processes are told at their start, in a file that only their user can read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    SerializationInfo,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)

from backup.guards import GuardSettings
from backup.limits import RequestLimits
from backup.sealing import KeySource
from backup.settings import REVEAL, StoreSettings, reveal
from node.engine.config import BLOB_LIMIT, INLINE_LIMIT, LEAST_INLINE, MOST

MB = 1 << 20
#: A thousand years.
MOST_SECONDS: Final = 1000 * 366 * 24 * 3600


class BadSettings(Exception):
    """A settings file is missing or wrong; the message says where."""


class ProcessSettings(BaseModel):
    """What every process of a fleet has in common.

    ``token`` is what callers of the process's HTTP API must bear. ``listen_port`` 0 takes any
    free port; ``address_file``, if given, is written (as a URL) once the process answers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: StoreSettings
    token: SecretStr
    listen_host: str = "127.0.0.1"
    listen_port: int = Field(default=0, ge=0, le=65535)
    address_file: Path | None = None

    @field_serializer("token")
    def _hide(self, value: SecretStr, info: SerializationInfo) -> str:
        return reveal(value, info)

    def write(self, path: Path) -> None:
        """Write the settings, secrets included, to a file with mode 0600."""
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(self.model_dump_json(context=REVEAL, indent=1))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises `BadSettings`."""
        try:
            return cls.model_validate_json(path.read_text())
        except OSError as error:
            raise BadSettings(f"cannot read the settings file {path}: {error.strerror}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise BadSettings(f"{path}: {where}: {first['msg']}") from error


class DockerSettings(BaseModel):
    """How the runtime ``docker`` makes a node's container. ``apps`` is a folder of the Docker
    engine's machine with the tenants' applications. ``network`` is made if there is none of that
    name; on it, containers do not reach one another. ``endpoint`` is the store's base URL as it is
    reached from there, where that differs from the agent's. ``tmp_bytes`` is what fits into /tmp,
    which is memory."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str = "litefleet:latest"
    apps: Path | None = None
    network: str = Field(default="litefleet-nodes", min_length=1)
    endpoint: str | None = None
    tmp_bytes: int = Field(default=64 * MB, gt=0)


class NodeLimits(BaseModel):
    """What one node may use: ``memory_bytes``, ``cpus`` and ``pids`` (processes and threads) of all
    its processes together, ``files`` that each process of its engine may have open. None: whatever
    there is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    memory_bytes: int | None = Field(default=None, ge=128 * MB)
    cpus: float | None = Field(default=None, ge=0.05)
    pids: int | None = Field(default=None, ge=64)
    files: int | None = Field(default=None, ge=256)


class SleepSettings(BaseModel):
    """Which tenants are put to sleep: those that had nothing to do for ``after`` seconds (0: none),
    and will not have by a timer or a schedule within ``least`` seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    after: float = Field(default=900.0, ge=0, le=MOST_SECONDS)
    least: float = Field(default=60.0, ge=0, le=MOST_SECONDS)


class AccountSettings(BaseModel):
    """The operating system's users under which engines and sidecars run, two for each tenant.
    ``own`` needs an agent that is root; ``shared`` runs them all as the agent; ``auto`` is ``own``
    for root and with the runtime ``docker``. Nothing else on the machine may use the ``count``
    numbers from ``first`` on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    users: Literal["auto", "own", "shared"] = "auto"
    first: int = Field(default=200_000, ge=1000)
    count: int = Field(default=65_536, ge=2)


def short_enough(value: Path) -> Path:
    """A folder in which nodes have their sockets, as an absolute path. Raises ValueError."""
    # A unix socket's path has at most 107 bytes; ours are <data>/s/<16>/supervisor.sock.
    if len(os.fsencode(value.absolute())) > 70:
        raise ValueError(f"the path {value} is too long for unix sockets; use one below 70 bytes")
    return value.absolute()


class GatewaySettings(BaseModel):
    """The way in to tenants. While nobody serves a tenant that will be served soon, its requests
    are held: for ``hold_seconds``, at most ``hold_requests`` of one tenant at once, which take at
    most ``hold_bytes`` of memory. ``limits`` hold for each tenant that has none of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hold_seconds: float = Field(default=25.0, ge=0, le=600)
    hold_requests: int = Field(default=128, ge=0)
    hold_bytes: int = Field(default=8 * MB, ge=0)
    limits: RequestLimits = RequestLimits(concurrency=512, body_bytes=64 * MB)


class AgentSettings(ProcessSettings):
    """A host agent. ``advertise`` is the URL under which the coordinator reaches it, where that
    differs from where it listens. ``data`` holds all of the host's nodes. ``inline_limit`` and
    ``blob_limit`` are those of the host's engines, in bytes of JSON; the same on every host, or
    a tenant that moves is refused what it was allowed before. ``keep_closed`` and
    ``keep_history`` are seconds: how long closed executions, and histories that others have
    followed, stay in a log whose application has no rule for them; None: for ever. ``guards``
    say from what on each node alerts. With ``copy_keys``, the tenants' independent copies are
    encrypted before they leave the host. ``runtime`` is how nodes are run, ``limits`` what each
    may use, ``accounts`` as whom they run, ``gateway`` what the host lets in. What nodes have left
    on its disk is removed after ``quarantine_days``, if the bucket proves that it is superseded;
    None: never."""

    host: str
    data: Path
    advertise: str | None = None
    keep_closed: float | None = Field(default=None, ge=0, le=MOST_SECONDS)
    keep_history: float | None = Field(default=None, ge=0, le=MOST_SECONDS)
    inline_limit: int = Field(default=INLINE_LIMIT, ge=LEAST_INLINE, le=MOST)
    blob_limit: int = Field(default=BLOB_LIMIT, ge=LEAST_INLINE, le=MOST)
    guards: GuardSettings = GuardSettings()
    copy_keys: KeySource | None = None
    runtime: Literal["process", "docker"] = "process"
    docker: DockerSettings = DockerSettings()
    limits: NodeLimits = NodeLimits()
    accounts: AccountSettings = AccountSettings()
    gateway: GatewaySettings = GatewaySettings()
    quarantine_days: float | None = Field(default=30.0, ge=0)

    @property
    def own_users(self) -> bool:
        """Whether each tenant runs as users of its own."""
        root = os.geteuid() == 0
        return self.accounts.users == "own" or (
            self.accounts.users == "auto" and (root or self.runtime == "docker")
        )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.inline_limit > self.blob_limit:
            raise ValueError("inline_limit is more than blob_limit")
        return self

    @field_validator("data")
    @classmethod
    def _short(cls, value: Path) -> Path:
        return short_enough(value)


#: What of an agent's settings goes on to each engine.
LIMITS: Final = {"inline_limit", "blob_limit", "keep_closed", "keep_history"}


class Chores(BaseModel):
    """What the coordinator does for every tenant of its own accord. Times are in seconds, 0 for
    never: ``drill_every``, within which each tenant's backup is verified by a restore, and
    ``copy_every``, within which it gets an independent copy. Copies are kept for ``copy_days``, the
    newest ``copies_least`` of them for as long as there is no newer one. Every ``purge_every`` it
    looks for epochs that may go: ``epoch_days`` after their successor began, if that or a later one
    was restored in a drill. A tenant that is deleted can be brought back for ``grace_days``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    drill_every: float = Field(default=86_400.0, ge=0)
    copy_every: float = Field(default=86_400.0, ge=0)
    copy_days: int = Field(default=7, ge=0)
    copies_least: int = Field(default=2, ge=1)
    purge_every: float = Field(default=3_600.0, ge=0)
    epoch_days: float = Field(default=30.0, ge=0)
    grace_days: float = Field(default=7.0, ge=0)


class CoordinatorSettings(ProcessSettings):
    """The coordinator. ``issuer`` says where each tenant's sidecar gets its credentials:
    ``iam`` creates a user for each tenant, limited to its replicas; ``shared`` gives every
    sidecar the fleet's own, for stores without an IAM interface. ``chores`` are what it does for
    every tenant now and then, ``gateway`` is what it lets in, ``sleep`` which tenants it puts to
    sleep. ``name`` tells it from the fleet's other coordinators, of which one is active. ``data``
    is its folder, for the node of its log. ``advertise`` is the URL under which the others reach
    it, where that differs from where it listens."""

    issuer: Literal["iam", "shared"] = "shared"
    chores: Chores = Field(default_factory=Chores)
    gateway: GatewaySettings = GatewaySettings()
    sleep: SleepSettings = SleepSettings()
    name: str = Field(default="coordinator", pattern=r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$")
    data: Path = Path("coordinator")
    advertise: str | None = None

    @field_validator("data")
    @classmethod
    def _short(cls, value: Path) -> Path:
        return short_enough(value)
