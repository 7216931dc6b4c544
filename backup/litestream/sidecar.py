"""One tenant's Litestream process."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from backup.litestream import binary, config
from backup.litestream.control import Control, ControlError, Positions
from backup.litestream.pace import Pace
from backup.parent import die_with_parent
from backup.settings import StoreSettings

LOG_BYTES = 4 * 1024 * 1024
"""Bytes of Litestream's log before it is put aside."""
LOOK_AT_LOG = 60.0
"""Seconds between two looks at how large it is."""


class SidecarFailed(Exception):
    """The sidecar ended or did not become ready; the message has its last words."""


@dataclass(frozen=True, slots=True)
class SidecarUser:
    """Whom a sidecar runs as, and a folder of its own where that is another than its parent."""

    user: int
    group: int
    home: Path


class Sidecar:
    """A Litestream process that streams one database to one epoch's prefix.

    The folder's lock is held for this object's life: a second Litestream on the same socket would
    not be refused, it would steal the socket and delete it when it exits.
    """

    def __init__(
        self,
        store: StoreSettings,
        replica_prefix: str,
        database: Path,
        folder: Path,
        user: SidecarUser | None = None,
    ):
        """
        Args:
            store: the bucket, with the credentials that the sidecar shall have.
            replica_prefix: the epoch's prefix, relative to the fleet's.
            database: the SQLite file.
            folder: where the sidecar's configuration, socket and log go.
            user: whom it runs as, and then its own folder for these; None: as this process.
        """
        self._store = store
        self._folder = folder
        self._user = user
        home = self._home = user.home if user is not None else folder
        self._socket = home / "litestream.sock"
        self._prefix = replica_prefix
        self._database = database
        self.pace = Pace.BUSY
        """How often it looks after the replica, from its next start on."""
        self._log = home / "litestream.log"
        self._process: asyncio.subprocess.Process | None = None
        self._lock: int | None = None
        self.control = Control(self._socket, database)

    @property
    def pid(self) -> int | None:
        """The running process, None when there is none."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if self._process is not None and running else None

    async def start(self) -> None:
        """Start the process; `ready` tells when it streams.

        Raises:
            MissingBinary: Litestream is not installed.
            SidecarFailed: another sidecar holds the folder.
        """
        self._take_lock()
        path = self._home / "litestream.yml"
        config.for_epoch(self._store, self._prefix, self._database, self._socket, self.pace).write(
            path
        )
        more: dict[str, Any] = {}
        if self._user is not None:
            os.chown(path, self._user.user, self._user.group)
            more = {"user": self._user.user, "group": self._user.group, "extra_groups": []}
            more["umask"] = 0o007
        self._socket.unlink(missing_ok=True)
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._process = await asyncio.create_subprocess_exec(
                str(binary.find()),
                "replicate",
                "-config",
                str(path),
                env=config.environment(self._store),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # It must not outlive its supervisor, or it would upload with nobody watching.
                preexec_fn=partial(die_with_parent, os.getpid()),
                **more,
            )
        finally:
            os.close(log)

    async def ready(self, timeout: float) -> int:
        """Wait until the first local position exists, and return it.

        Raises:
            SidecarFailed: the process ended, or ``timeout`` seconds passed.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        while True:
            if self.pid is None:
                raise SidecarFailed(f"litestream ended at its start: {self.last_words()}")
            if self._socket.exists():
                try:
                    txid = await self.control.txid()
                except ControlError:
                    txid = 0
                if txid > 0:
                    return txid
            if loop.time() >= until:
                raise SidecarFailed(
                    f"litestream was not ready within {timeout:.0f} s: {self.last_words()}"
                )
            await asyncio.sleep(0.01)

    async def sync(self, timeout: float) -> Positions:
        """Upload all that is committed now. The positions decide, not the absence of an error."""
        return await self.control.sync(wait=True, timeout=timeout)

    async def wait(self) -> int:
        """Wait until the process has ended and is reaped; its exit status."""
        assert self._process is not None
        while True:
            try:
                return await asyncio.wait_for(self._process.wait(), LOOK_AT_LOG)
            except TimeoutError:
                self.bound_log()

    def bound_log(self, size: int = LOG_BYTES) -> None:
        """Put its log aside as `.1` once it is larger than ``size`` bytes.

        It is copied and cut, since Litestream keeps its file open; a line that comes between the
        two is lost.
        """
        with contextlib.suppress(OSError):
            if self._log.stat().st_size > size:
                shutil.copyfile(self._log, f"{self._log}.1")
                os.truncate(self._log, 0)

    async def stop(self, timeout: float = 10.0) -> None:
        """End the process and reap it. A final sync is the caller's: its own is not verified."""
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self._process.wait(), timeout)
            except TimeoutError:
                self.kill()
        await self._process.wait()
        await self.control.close()
        self._release_lock()

    def kill(self) -> None:
        """SIGKILL, without waiting."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    def last_words(self) -> str:
        """The last line of its log."""
        try:
            lines = self._log.read_text(errors="replace").strip().splitlines()
        except OSError:
            return "no log"
        return lines[-1][:300] if lines else "no log"

    def _take_lock(self) -> None:
        if self._lock is not None:
            return
        lock = os.open(
            self._folder / "litestream.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise SidecarFailed(f"another sidecar runs in {self._folder}") from error
        self._lock = lock

    def _release_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
