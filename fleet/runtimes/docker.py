"""Nodes as containers, by the Docker engine: one for each, with its supervisor as first process.

The container has a read-only root, none of the capabilities that its supervisor does not need, and
of the host's files only its own folders, at the paths that they have outside. An agent that is
started anew knows the containers of its host by their labels.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import docker
import docker.errors
import requests

from fleet.runtimes.protocol import Handle, Limits, Place, RuntimeFailed
from fleet.settings import DockerSettings

T = TypeVar("T")

CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "KILL", "SETGID", "SETUID")
"""What a supervisor needs to give files to the engine's user, to become it, and to end it. The
engine has none of them: they go with the change of user."""
CALL_TIMEOUT = 30
"""Seconds for the Docker engine to answer."""
STOPPED_WITHIN = 10.0
"""Seconds for a container to be gone once it is removed."""
LABELS = "litefleet"

Client = Callable[[], Any]


class DockerRuntime:
    """`Runtime` on a Docker engine that may also run other things, and other hosts' nodes."""

    def __init__(
        self,
        settings: DockerSettings,
        fleet: str,
        host: str,
        limits: Limits,
        connect: Client = lambda: docker.from_env(timeout=CALL_TIMEOUT),
    ):
        """
        Args:
            fleet: the fleet's name; with ``host``, what tells this host's containers from others.
            limits: of each node.
            connect: makes a client of the engine.
        """
        self._settings = settings
        self._fleet = fleet
        self._host = host
        self._limits = limits
        self._connect = connect
        self._client: Any = None

    async def warm_up(self) -> None:
        def prepare() -> None:
            client = self._engine()
            client.images.get(self._settings.image)
            self._network(client)

        await self._ask("the Docker engine, its image or its network cannot be used", prepare)

    async def start(self, place: Place, reads: Iterable[Path]) -> Handle:
        def run() -> Handle:
            client = self._engine()
            self._network(client)
            container = client.containers.run(**self._options(place, reads))
            return Handle(container=container.id)

        return await self._ask(f"the container of {place.tenant} cannot be started", run)

    async def kill(self, handle: Handle) -> None:
        if not handle.container:
            return

        def remove() -> None:
            client = self._engine()
            try:
                client.containers.get(handle.container).remove(force=True)
            except docker.errors.NotFound:
                return
            except docker.errors.APIError as error:
                if error.status_code != 409:  # somebody else is removing it
                    raise

        await self._ask("a container cannot be removed", remove)
        loop = asyncio.get_running_loop()
        until = loop.time() + STOPPED_WITHIN
        while await self._ask("a container cannot be looked at", lambda: self._there(handle)):
            if loop.time() >= until:
                raise RuntimeFailed(f"container {handle.container[:12]} does not end")
            await asyncio.sleep(0.05)

    async def end_strays(self, known: Iterable[Handle]) -> None:
        ours = {handle.container for handle in known}
        labels = [f"{LABELS}.fleet={self._fleet}", f"{LABELS}.host={self._host}"]

        def found() -> list[str]:
            listed = self._engine().containers.list(
                all=True, filters={"label": labels}, ignore_removed=True
            )
            return [container.id for container in listed]

        for id in await self._ask("the containers cannot be listed", found):
            if id not in ours:
                await self.kill(Handle(container=id))

    async def close(self) -> None:
        if self._client is not None:
            await asyncio.to_thread(self._client.close)
            self._client = None

    # -- what a container is made of ----------------------------------------------------------

    def _options(self, place: Place, reads: Iterable[Path]) -> dict[str, Any]:
        settings, limits = self._settings, self._limits
        volumes = {
            str(path): {"bind": str(path), "mode": "rw"}
            for path in (place.folder, place.sockets, *reads)
        }
        if settings.apps is not None:
            volumes[str(settings.apps)] = {"bind": "/apps", "mode": "ro"}
        log = str(place.folder / "supervisor.log")
        return {
            "image": settings.image,
            "command": ["python3", "-m", "node.container", str(place.sockets), log],
            "name": _plain(f"litefleet-{self._fleet}-{self._host}-{place.tenant}-{place.name}"),
            "hostname": place.tenant[:63],
            "detach": True,
            "labels": {
                f"{LABELS}.fleet": self._fleet,
                f"{LABELS}.host": self._host,
                f"{LABELS}.tenant": place.tenant,
                f"{LABELS}.node": place.name,
            },
            "environment": {
                "LITEFLEET_SOCKETS": str(place.sockets),
                # Sets of strings must iterate alike in every life of an engine.
                "PYTHONHASHSEED": "0",
            },
            "user": "0:0",
            "working_dir": "/",
            "volumes": volumes,
            "network": settings.network,
            "read_only": True,
            "tmpfs": {"/tmp": f"size={settings.tmp_bytes},mode=1777,nosuid,nodev"},
            "cap_drop": ["ALL"],
            "cap_add": list(CAPABILITIES),
            "security_opt": ["no-new-privileges:true"],
            "mem_limit": limits.memory_bytes,
            # As much as the memory, so that nothing is swapped.
            "memswap_limit": limits.memory_bytes,
            "nano_cpus": int(limits.cpus * 1e9) if limits.cpus is not None else None,
            "pids_limit": limits.pids,
            # A node that has ended is for the coordinator to start, elsewhere perhaps.
            "restart_policy": {"Name": "no"},
            "log_config": {"type": "json-file", "config": {"max-size": "4m", "max-file": "1"}},
        }

    def _network(self, client: Any) -> None:
        """A bridge on which containers reach what is outside of it, and not one another."""
        try:
            client.networks.get(self._settings.network)
        except docker.errors.NotFound:
            client.networks.create(
                self._settings.network,
                driver="bridge",
                check_duplicate=True,
                options={"com.docker.network.bridge.enable_icc": "false"},
                labels={f"{LABELS}.made": "true"},
            )

    # -- the engine ---------------------------------------------------------------------------

    def _engine(self) -> Any:
        if self._client is None:
            self._client = self._connect()
        return self._client

    def _there(self, handle: Handle) -> bool:
        try:
            self._engine().containers.get(handle.container)
        except docker.errors.NotFound:
            return False
        return True

    @staticmethod
    async def _ask(what: str, call: Callable[[], T]) -> T:
        """Ask on a thread, since the SDK waits. Raises `RuntimeFailed`."""
        try:
            return await asyncio.to_thread(call)
        except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
            raise RuntimeFailed(f"{what}: {error}") from error


def _plain(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_.-]", "-", name)
