"""What a host agent asks of whatever runs its nodes.

A runtime brings up supervisors and ends them; what a supervisor does is the same under each, and is
asked over its socket. A runtime also knows again what an earlier agent of the host has started.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict

LABEL = "node.json"
"""The file in a node's folder that says who runs it, for the agent that comes next."""


class RuntimeFailed(Exception):
    """A supervisor could not be started; the message says why."""


class Place(BaseModel):
    """One node's place on this host: its folder of files, and its folder of sockets."""

    model_config = ConfigDict(frozen=True)

    tenant: str
    name: str
    folder: Path
    sockets: Path


class Handle(BaseModel):
    """Where a supervisor runs, in words that stay true when its agent is gone: a process with the
    moment of its start (in ticks) and the boot in which that was, or a container."""

    model_config = ConfigDict(frozen=True)

    pid: int = 0
    ticks: int = 0
    boot: str = ""
    container: str = ""


class Label(BaseModel):
    """What lies in a node's folder while it lives. ``incarnation`` is the whole claim's."""

    model_config = ConfigDict(frozen=True)

    place: Place
    incarnation: str
    handle: Handle = Handle()

    def write(self) -> None:
        """Write it in one piece."""
        path = self.place.folder / LABEL
        partial = path.with_name(f".{LABEL}")
        partial.write_text(self.model_dump_json())
        partial.rename(path)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one node may use. None: whatever there is."""

    memory_bytes: int | None = None
    cpus: float | None = None
    pids: int | None = None


class Runtime(Protocol):
    """Runs supervisors. Its methods may be called for several nodes at once."""

    async def warm_up(self) -> None:
        """Make ready what the first start would otherwise wait for. Raises `RuntimeFailed`."""

    async def start(self, place: Place, reads: Iterable[Path]) -> Handle:
        """Start a supervisor that listens in the place's folder of sockets.

        Args:
            reads: other folders of this host whose files the node needs.

        Raises:
            RuntimeFailed: there is none.
        """

    async def kill(self, handle: Handle) -> None:
        """End a supervisor and all that it runs, and return once none of it is left.

        Raises:
            RuntimeFailed: it cannot be told that all of it is gone.
        """

    async def end_strays(self, known: Iterable[Handle]) -> None:
        """End whatever this runtime runs for the host apart from what is known.

        Raises:
            RuntimeFailed: it cannot be told that all of it is gone.
        """

    async def close(self) -> None:
        """Let go of what the runtime holds itself; nodes run on."""
