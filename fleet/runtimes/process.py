"""Nodes as processes of this machine, forked from a warm one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil

from backup.settings import StoreSettings
from fleet.runtimes.protocol import Handle, Place, RuntimeFailed
from node.nursery import Nursery, NurseryLost

GONE_WITHIN = 5.0
"""Seconds for killed processes to be gone."""
LOOK_EVERY = 0.01


class ProcessRuntime:
    """`Runtime` on the machine itself. Every supervisor leads a session of its own."""

    def __init__(self, data: Path, environment: dict[str, str], store: StoreSettings | None = None):
        """
        Args:
            data: the host's folder.
            environment: what every node inherits; it must hold no secret.
            store: where the nodes' records are, for the nursery to make ready for.
        """
        self._log = data / "nursery.log"
        self._environment = environment
        self._store = store
        self._nursery: Nursery | None = None
        self._lock = asyncio.Lock()

    async def warm_up(self) -> None:
        await self._warm()

    async def _warm(self) -> Nursery:
        async with self._lock:
            if self._nursery is None or not self._nursery.alive:
                self._nursery = await Nursery.start(self._log, self._environment, self._store)
            return self._nursery

    async def start(self, place: Place, reads: Iterable[Path]) -> Handle:
        log = place.folder / "supervisor.log"
        for attempt in range(2):
            try:
                pid = await (await self._warm()).spawn(place.sockets, log)
                break
            except NurseryLost as error:
                if attempt:
                    raise RuntimeFailed(str(error)) from error
        return Handle(pid=pid, ticks=started_at(pid) or 0, boot=boot())

    async def kill(self, handle: Handle) -> None:
        # Engine and sidecar die with their supervisor, by the kernel's hand; but only when that
        # has come to pass may anybody be told that they are gone.
        below = _below(handle) if is_ours(handle) else []
        if is_ours(handle):
            with contextlib.suppress(ProcessLookupError):
                os.kill(handle.pid, signal.SIGKILL)
        for process in below:  # what the tenant's code has started is nobody's child any more
            with contextlib.suppress(psutil.Error):
                process.kill()
        until = asyncio.get_running_loop().time() + GONE_WITHIN
        while is_ours(handle) or any(_lives(process) for process in below):
            if asyncio.get_running_loop().time() >= until:
                raise RuntimeFailed(f"process {handle.pid} does not end")
            await asyncio.sleep(LOOK_EVERY)

    async def end_strays(self, known: Iterable[Handle]) -> None:
        """There are none to be found that have no label: each is a child of the kernel's alone."""

    async def close(self) -> None:
        if self._nursery is not None:
            await self._nursery.stop()


def clean_environment() -> dict[str, str]:
    """What nodes inherit of this process's environment: what a program needs to run, no more."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TZ", "HOME") if name in os.environ}
    # Sets of strings must iterate alike in every life of an engine, or a replay could diverge.
    kept["PYTHONHASHSEED"] = "0"
    # One heap for all threads of a process: there are few, and each heap of theirs has its holes.
    kept["MALLOC_ARENA_MAX"] = "1"
    # A tenant's application may lie in a folder that this process found by its own search path.
    kept["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return kept


def is_ours(handle: Handle) -> bool:
    """Whether the very process lives: pids are given out again, and after a boot all of them."""
    return handle.boot == boot() and handle.ticks != 0 and started_at(handle.pid) == handle.ticks


def boot() -> str:
    """An id of this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def started_at(pid: int) -> int | None:
    """When a process began, in ticks since the boot; None if there is none, or only its remains."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *fields = text.rpartition(")")[2].split()
    return None if state in "ZX" else int(fields[18])


def _below(handle: Handle) -> list[psutil.Process]:
    try:
        return psutil.Process(handle.pid).children(recursive=True)
    except psutil.Error:
        return []


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
