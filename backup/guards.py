"""Guards: what runs away between a database and its bucket, seen by numbers, before it costs.

The two complaints heard most of Litestream are disks that fill and bills that grow; none of the
known cases wrote a line to a log. A guard compares what is measured with what the tenant really
committed. Everything here is pure: measurements come in, alerts go out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

MB: Final = 1 << 20


class Guard(StrEnum):
    """What is watched."""

    UNPROVEN = "unproven"
    """Something committed has not been proven in the bucket for too long."""
    UNREPLICATED = "unreplicated"
    """More bytes than one would like to lose are not in the bucket."""
    WAL = "wal"
    """The WAL is too large: nothing checkpoints it."""
    READER = "reader"
    """A read transaction holds the WAL back."""
    DISK = "disk"
    """WAL and Litestream's own files are large beside the database."""
    TRAFFIC = "traffic"
    """Much more is uploaded than is committed."""
    FULL_UPLOADS = "full_uploads"
    """The whole database is uploaded again and again."""
    QUOTA = "quota"
    """The database is larger than the tenant may have."""
    STUCK = "stuck"
    """The sidecar uploads nothing, and cures did not help."""


class Action(StrEnum):
    """What is done when a guard's alert begins, beside telling of it."""

    NONE = "none"
    RESTART_SIDECAR = "restart_sidecar"
    """Litestream is killed and started again: its memory of the replica is made anew."""


class GuardSettings(BaseModel):
    """From what on a guard alerts; None for never. Sizes are in bytes, times in seconds.

    ``every`` is how often a node is measured.
    ``traffic_factor`` and ``full_uploads`` look at the last ``window``. ``actions`` names what a
    guard does beside alerting: nothing, where it is not named.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    every: float = Field(default=5.0, gt=0)
    unproven_seconds: float | None = Field(default=30.0, gt=0)
    unreplicated_bytes: int | None = Field(default=256 * MB, gt=0)
    wal_bytes: int | None = Field(default=200 * MB, gt=0)
    reader_seconds: float | None = Field(default=15.0, gt=0)
    disk_factor: float | None = Field(default=4.0, gt=0)
    disk_least: int = Field(default=256 * MB, ge=0)
    traffic_factor: float | None = Field(default=10.0, gt=1)
    traffic_least: int = Field(default=64 * MB, ge=0)
    full_uploads: int | None = Field(default=3, gt=0)
    full_upload_least: int = Field(default=8 * MB, ge=0)
    quota_bytes: int | None = Field(default=None, gt=0)
    window: float = Field(default=1800.0, gt=0)
    actions: Mapping[Guard, Action] = Field(default_factory=dict)


class Measured(BaseModel):
    """One measurement of a node, at ``at`` (seconds of any one clock).

    ``committed_bytes``, ``uploaded_bytes`` and ``full_uploads`` count from the node's start: what
    was written to the WAL, what was put into level 0, and how many of those files were about as
    large as the database itself.
    """

    model_config = ConfigDict(frozen=True)

    at: float
    database: int = 0
    wal: int = 0
    metadata: int = 0
    committed_bytes: int = 0
    uploaded_bytes: int = 0
    full_uploads: int = 0
    unproven_seconds: float = 0.0
    unreplicated_bytes: int = 0
    reader_seconds: float = 0.0
    reader_pids: tuple[int, ...] = ()
    stuck: bool = False


class Alert(BaseModel):
    """A guard that is not content. ``since`` is in unix seconds, ``text`` for people."""

    model_config = ConfigDict(frozen=True)

    guard: Guard
    since: float
    text: str
    action: Action = Action.NONE


def complaints(now: Measured, before: Measured, settings: GuardSettings) -> dict[Guard, str]:
    """Which guards are not content with a measurement, and why.

    Args:
        before: the oldest measurement of the window.
    """
    found: dict[Guard, str] = {}

    def over(guard: Guard, value: float, limit: float | None, text: str) -> None:
        if limit is not None and value > limit:
            found[guard] = text

    over(
        Guard.UNPROVEN,
        now.unproven_seconds,
        settings.unproven_seconds,
        f"what was committed {now.unproven_seconds:.0f} s ago is not proven to be in the bucket",
    )
    over(
        Guard.UNREPLICATED,
        now.unreplicated_bytes,
        settings.unreplicated_bytes,
        f"{_mb(now.unreplicated_bytes)} of commits are not in the bucket",
    )
    over(Guard.WAL, now.wal, settings.wal_bytes, f"the WAL has {_mb(now.wal)}")
    over(
        Guard.READER,
        now.reader_seconds,
        settings.reader_seconds,
        f"a read transaction has been open for {now.reader_seconds:.0f} s and holds the WAL back "
        f"(process {', '.join(map(str, now.reader_pids))})",
    )
    beside = now.wal + now.metadata
    if settings.disk_factor is not None and beside > settings.disk_least:
        over(
            Guard.DISK,
            beside,
            settings.disk_factor * now.database,
            f"{_mb(beside)} of WAL and Litestream's files lie beside a database of "
            f"{_mb(now.database)}",
        )
    uploaded = now.uploaded_bytes - before.uploaded_bytes
    committed = now.committed_bytes - before.committed_bytes
    if settings.traffic_factor is not None and uploaded > settings.traffic_least:
        over(
            Guard.TRAFFIC,
            uploaded,
            settings.traffic_factor * committed,
            f"{_mb(uploaded)} were uploaded for {_mb(committed)} that were committed in the last "
            f"{(now.at - before.at) / 60:.0f} minutes",
        )
    full = now.full_uploads - before.full_uploads
    over(
        Guard.FULL_UPLOADS,
        full,
        settings.full_uploads,
        f"the whole database was uploaded {full} times in the last "
        f"{(now.at - before.at) / 60:.0f} minutes",
    )
    over(
        Guard.QUOTA,
        now.database,
        settings.quota_bytes,
        f"the database has {_mb(now.database)}, and {_mb(settings.quota_bytes or 0)} are allowed",
    )
    if now.stuck:
        found[Guard.STUCK] = "litestream uploads nothing, and restarting it has not helped"
    return found


class Watch:
    """The guards of one node over time. ``clock`` of the alerts is unix seconds."""

    def __init__(self, settings: GuardSettings) -> None:
        self._settings = settings
        self._window: deque[Measured] = deque()
        self.alerts: dict[Guard, Alert] = {}

    def measured(self, now: Measured, wall: float) -> list[Alert]:
        """Take a measurement in at unix time ``wall``; the alerts that begin with it."""
        self._window.append(now)
        while now.at - self._window[0].at > self._settings.window and len(self._window) > 1:
            self._window.popleft()
        found = complaints(now, self._window[0], self._settings)
        begun = []
        for guard in list(self.alerts):
            if guard not in found:
                del self.alerts[guard]
        for guard, text in found.items():
            known = self.alerts.get(guard)
            action = self._settings.actions.get(guard, Action.NONE)
            alert = Alert(
                guard=guard, since=known.since if known else wall, text=text, action=action
            )
            self.alerts[guard] = alert
            if known is None:
                begun.append(alert)
        return begun


def _mb(size: float) -> str:
    return f"{size / MB:,.1f} MB"
