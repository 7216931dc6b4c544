"""Litestream's configuration, from a typed model.

Litestream ignores unknown keys in silence (its issue #1403), so nobody writes this file by hand,
and tests/integration/test_litestream.py shows that each key set here takes effect.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from backup.litestream.pace import INTERVALS, Pace
from backup.settings import StoreSettings


def _dashed(name: str) -> str:
    return name.replace("_", "-")


class _Section(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=_dashed, populate_by_name=True
    )


class Socket(_Section):
    """The control socket: ``permissions`` are those of the file."""

    enabled: bool = True
    path: str
    permissions: int = 0o600


class Level(_Section):
    """One compaction level, from L1 up. ``interval`` is a Go duration."""

    interval: str


class Snapshot(_Section):
    """How often a full snapshot is written and how long it is kept (Go durations)."""

    interval: str = "24h"
    retention: str = "24h"


class Logging(_Section):
    """Lines of JSON to stderr."""

    level: str = "info"
    type: str = "json"
    stderr: bool = True


class Replica(_Section):
    """Where the replica goes: one epoch's prefix, never shared and never reused.

    There is no ``auto-recover``: after it resets, uploads stop while ``/sync`` still answers 200.
    Credentials are in the environment, not in this file. 0.5.17 has a key for SSE-KMS and none for
    SSE-S3.
    """

    type: str = "s3"
    bucket: str
    path: str
    endpoint: str
    region: str
    force_path_style: bool = True
    sync_interval: str = "1s"
    sse_kms_key_id: str | None = None


class FileReplica(_Section):
    """A replica in a folder of this machine: what is restored from once its files are here."""

    type: str = "file"
    path: str


class Database(_Section):
    """One database. ``monitor-interval`` bounds the WAL best (measured: 200 ms gave 9 MB where the
    default gave 39 MB at 400 commits of 20 KB a second)."""

    path: str
    monitor_interval: str = "200ms"
    checkpoint_interval: str = "1m"
    busy_timeout: str = "5s"
    replica: Replica | FileReplica


class LitestreamConfig(_Section):
    """The whole file. Its intervals are those of a `Pace`."""

    socket: Socket
    levels: list[Level]
    snapshot: Snapshot = Snapshot()
    l0_retention: str
    l0_retention_check_interval: str
    shutdown_sync_timeout: str = "5s"
    logging: Logging = Logging()
    dbs: list[Database]

    def write(self, path: Path) -> None:
        """Write the file, 0600. JSON is YAML, so no YAML library is needed to write it."""
        path.touch(mode=0o600)
        path.write_text(self.model_dump_json(by_alias=True, indent=1, exclude_none=True))


def for_epoch(
    store: StoreSettings,
    replica_prefix: str,
    database: Path,
    socket: Path,
    pace: Pace = Pace.BUSY,
) -> LitestreamConfig:
    """The configuration that streams ``database`` to ``replica_prefix`` (relative to the fleet)."""
    intervals = INTERVALS[pace]
    return LitestreamConfig(
        socket=Socket(path=str(socket)),
        levels=[Level(interval=interval) for interval in intervals.levels],
        l0_retention=intervals.l0_retention,
        l0_retention_check_interval=intervals.l0_retention_check,
        dbs=[
            Database(
                path=str(database),
                replica=Replica(
                    bucket=store.bucket,
                    path=f"{store.prefix}/{replica_prefix.rstrip('/')}",
                    endpoint=store.endpoint,
                    region=store.region,
                    sse_kms_key_id=store.encryption.kms_key_id if store.encryption else None,
                ),
            )
        ],
    )


def for_folder(folder: Path, database: Path, socket: Path) -> LitestreamConfig:
    """The configuration to restore ``database`` from files that lie in ``folder``."""
    intervals = INTERVALS[Pace.IDLE]
    return LitestreamConfig(
        socket=Socket(path=str(socket)),
        levels=[Level(interval=interval) for interval in intervals.levels],
        l0_retention=intervals.l0_retention,
        l0_retention_check_interval=intervals.l0_retention_check,
        dbs=[Database(path=str(database), replica=FileReplica(path=str(folder)))],
    )


def environment(store: StoreSettings) -> dict[str, str]:
    """The sidecar's whole environment, built from nothing.

    Nothing is inherited: ``AWS_CA_BUNDLE``, for one, kills Litestream 0.5.17 at its start.
    """
    return {
        "LITESTREAM_ACCESS_KEY_ID": store.credentials.access_key_id,
        "LITESTREAM_SECRET_ACCESS_KEY": store.credentials.secret_access_key.get_secret_value(),
    }
