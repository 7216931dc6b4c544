"""What the node stands on: its disk and its clock."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.faults.lab import Lab, Verdict

DISK_BYTES: Final = 64 << 20
_FAKETIME: Final = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
)


class NotHere(Exception):
    """The fault cannot be made on this machine; the message says what is needed."""


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A tmpfs of 64 MB in ``folder``. Raises `NotHere` unless this is root."""
    place = folder / "disk"
    place.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise NotHere("a small disk needs mount") from error
    if done.returncode != 0:
        raise NotHere(f"a small disk needs root: {done.stderr.strip()}")
    try:
        yield place
    finally:
        # Processes that were killed just now may still have files open.
        subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)


async def disk_full(lab: Lab, moments: random.Random) -> Verdict:
    """No byte is left for two times some seconds: commits fail, and Litestream's files too."""
    filler = lab.host.data / "filler"
    for _ in range(2):
        await asyncio.sleep(moments.uniform(0.3, 1.0))
        await asyncio.to_thread(_fill, filler)
        await asyncio.sleep(4.0)
        filler.unlink()
        await lab.acknowledged(5)
    await asyncio.to_thread(_fill, filler)
    await asyncio.sleep(1.0)
    await lab.lose_the_machine()
    await lab.rest()
    # The next machine has a disk of its own.
    lab.host.data = lab.host.data.parent / "next"
    lab.host.data.mkdir()
    return await lab.judge()


def _fill(filler: Path) -> None:
    """Write until nothing goes, in ever smaller pieces: the node frees and takes meanwhile."""
    with filler.open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1 << 12):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))


def clock_environment(folder: Path) -> dict[str, str]:
    """What makes a node read its wall clock from a file. Raises `NotHere` without libfaketime."""
    for library in _FAKETIME:
        if Path(library).exists():
            _set(folder, 0)
            return {
                "LD_PRELOAD": library,
                "FAKETIME_TIMESTAMP_FILE": str(folder / "clock"),
                "FAKETIME_NO_CACHE": "1",
                # Deadlines are on the monotonic and the boot-time clock, which nobody can set.
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
    raise NotHere("steps of the clock need libfaketime (on Debian: apt-get install libfaketime)")


def _set(folder: Path, seconds: float) -> None:
    fresh = folder / "clock.new"
    fresh.write_text(f"{seconds:+.0f}\n")
    os.replace(fresh, folder / "clock")


async def clock_steps(lab: Lab, moments: random.Random) -> Verdict:
    """The wall clock of engine and supervisor jumps forward and back, by minutes and by an hour:
    with an hour the store refuses what they sign, until the clock is right again."""
    folder = lab.host.data.parent
    for seconds in (300, -300, 3600, 0, -3600, 0):
        _set(folder, seconds)
        await asyncio.sleep(moments.uniform(0.5, 1.5))
        if abs(seconds) <= 600:
            await lab.acknowledged(3)
    return await lab.judge()
