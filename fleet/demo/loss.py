"""Losing a host, in three manners, and what an observer outside the fleet sees of it.

- kill: the whole process tree is stopped at one instant, its databases are copied for the
  count, then SIGKILL and its folder is deleted.
- freeze: SIGSTOP past the lease's time, until all its tenants serve elsewhere; then SIGCONT, so
  that it comes back as a zombie with everything still in memory.
- partition: cut off from the store and from the coordinator, but not from the receiver of its
  effects, until all its tenants serve elsewhere; then healed.

Frozen and partitioned hosts are asked directly, past the gateway, to start executions durably.
They must not claim that they did.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import httpx
import psutil
from pydantic import ValidationError

from backup import keys, records
from backup.ownership import OwnerRecord
from backup.store import S3Store
from fleet.agent.api import NodeList
from fleet.client import AsyncClient, FleetError
from fleet.demo.check import Finding, Owner, usurped
from fleet.demo.report import LostHost, ZombieReport
from fleet.demo.witness import copy_logs
from fleet.local import LocalFleet, LocalHost, until
from fleet.proxy import PASSED_HEADER
from fleet.views import TenantView

How = Literal["kill", "freeze", "partition"]

TAKEOVER_TIMEOUT = 120.0
"""Seconds for all tenants of a lost host to serve elsewhere."""
END_TIMEOUT = 45.0
"""Seconds for a host without authority to end its engines and come back with a new lease."""
STARTS_AT_ZOMBIE = 3
"""Durable starts sent straight to the lost host, for each of its tenants."""
ZOMBIE_PREFIX = "straight-to-the-lost-host"
"""Ids of executions that only the lost host was asked to start begin with this."""


@dataclass
class Loss:
    """What the observer knows of one lost host."""

    report: LostHost
    lost_at: float
    """UNIX seconds: the host committed nothing after this."""
    copies: list[Path] = field(default_factory=list)
    zombie: ZombieReport | None = None
    findings: list[Finding | str] = field(default_factory=list)


def busiest(tenants: Iterable[TenantView], gone: Iterable[str]) -> str | None:
    """The host with the most running executions, and of equals the one with more tenants."""
    weight: dict[str, tuple[int, int]] = {}
    for tenant in tenants:
        if tenant.host is not None and tenant.host not in gone:
            running, count = weight.get(tenant.host, (0, 0))
            weight[tenant.host] = (running + tenant.executions.running, count + 1)
    return max(weight, key=lambda name: (*weight[name], name), default=None)


class Destroyer:
    """Loses hosts of a fleet, one after another, and waits until each is made good."""

    def __init__(
        self,
        fleet: LocalFleet,
        client: AsyncClient,
        how: How,
        evidence: Path,
        workflow: str,
        input: dict[str, str],
        say: Callable[[str], None],
    ) -> None:
        """`evidence`: a folder for the copies. `workflow`, `input`: what zombies are asked for."""
        self._fleet = fleet
        self._client = client
        self._how = how
        self._evidence = evidence
        self._workflow = workflow
        self._input = input
        self._say = say
        self.losses: list[Loss] = []

    async def lose_one(self, name: str | None = None) -> None:
        """Lose a host, by default the busiest that is left, and return once its tenants serve
        elsewhere."""
        tenants = await self._client.tenants()
        name = name or busiest(tenants, {loss.report.host for loss in self.losses})
        if name is None:
            return
        on_it = [tenant for tenant in tenants if tenant.host == name]
        host = self._fleet.hosts[name]
        self._say(f"{_DOING[self._how]} {name} with {len(on_it)} tenants on it")
        loss = Loss(
            LostHost(
                host=name,
                how=self._how,
                at=time.time(),
                tenants=[tenant.name for tenant in on_it],
                executions_running=sum(tenant.executions.running for tenant in on_it),
            ),
            lost_at=time.time(),
        )
        self.losses.append(loss)
        if self._how == "kill":
            await self._kill(host, loss)
            await self._await_takeover(on_it, loss)
        else:
            await self._estrange(host, on_it, loss)

    def _folder(self) -> Path:
        return self._evidence / f"{len(self.losses):02d}"

    async def _kill(self, host: LocalHost, loss: Loss) -> None:
        # Stopping the tree first makes the copy the state at one instant, that of the loss.
        await asyncio.to_thread(host.machine.freeze)
        loss.report.at = loss.lost_at = time.time()
        loss.copies = await asyncio.to_thread(copy_logs, host.data, self._folder())
        await asyncio.to_thread(host.machine.kill)
        await asyncio.to_thread(shutil.rmtree, host.data)

    async def _estrange(self, host: LocalHost, on_it: Sequence[TenantView], loss: Loss) -> None:
        """Freeze or cut off a host, let its tenants be taken over, and let it come back."""
        before = await self._nodes(host)
        pids = {pid for node in before.nodes for kind, pid in node.pids.items() if kind in _OLD}
        engines = [psutil.Process(pid) for pid in pids]
        loss.report.at = loss.lost_at = time.time()
        if self._how == "freeze":
            await asyncio.to_thread(host.machine.freeze)
            loss.report.at = loss.lost_at = time.time()
            loss.copies = await asyncio.to_thread(copy_logs, host.data, self._folder())
        else:
            await host.cut()
        asking = asyncio.create_task(self._ask_directly(host, on_it))
        if self._how == "partition":
            # Cut off, it runs on until its own deadline; what it commits until then is lost too.
            await self._await_end(engines)
            loss.lost_at = time.time()
            # Its agent moves the files out of the way about now: hold it still for the copy.
            await asyncio.to_thread(host.machine.freeze)
            loss.copies = await asyncio.to_thread(copy_logs, host.data, self._folder())
            await asyncio.to_thread(host.machine.thaw)
        await self._await_takeover(on_it, loss)
        owners = {tenant.name: await self._owner(tenant.name) for tenant in on_it}
        self._say(f"{host.name} comes back and does not know yet that it was lost")
        back = time.monotonic()
        if self._how == "freeze":
            await asyncio.to_thread(host.machine.thaw)
        else:
            await host.heal()
        ended = await self._await_end(engines)
        seconds = time.monotonic() - back
        # Cut off but running, its engines ended at its own deadline, long before it came back.
        took = round(seconds, 3) if ended and self._how == "freeze" else None
        await self._await_new_life(host, before.incarnation, loss)
        asked, durable = await asking
        loss.zombie = ZombieReport(
            host=host.name,
            asked=asked,
            answered_durable=durable,
            stopped_itself=ended,
            seconds_to_stop=took,
        )
        for name, owner in owners.items():
            finding = usurped(name, owner, await self._owner(name), before.incarnation)
            if finding is not None:
                loss.findings.append(finding)

    async def _await_takeover(self, on_it: Sequence[TenantView], loss: Loss) -> None:
        epochs = {tenant.name: tenant.epoch for tenant in on_it}
        waiting = set(epochs)

        async def moved() -> bool:
            self._fleet.raise_if_ended()
            with contextlib.suppress(FleetError):
                for tenant in await self._client.tenants():
                    epoch = epochs.get(tenant.name, tenant.epoch)
                    if tenant.state == "active" and tenant.serving and tenant.epoch > epoch:
                        waiting.discard(tenant.name)
            return not waiting

        if not await until(moved, TAKEOVER_TIMEOUT):
            loss.findings += [
                f"{name}: not taken over within {TAKEOVER_TIMEOUT:.0f} s after "
                f"{loss.report.host} was lost"
                for name in sorted(waiting)
            ]

    async def _await_end(self, processes: Sequence[psutil.Process]) -> bool:
        async def ended() -> bool:
            return not any(_alive(process) for process in processes)

        return await until(ended, END_TIMEOUT)

    async def _await_new_life(self, host: LocalHost, old: str, loss: Loss) -> None:
        """Wait until the agent has joined again, under another incarnation than the lost one."""

        async def joined() -> bool:
            with contextlib.suppress(httpx.HTTPError, ValidationError):
                now = await self._nodes(host)
                return now.incarnation not in ("", old)
            return False

        if not await until(joined, END_TIMEOUT):
            loss.findings.append(
                f"{host.name}: did not join again within {END_TIMEOUT:.0f} s of its return"
            )

    async def _nodes(self, host: LocalHost) -> NodeList:
        async with httpx.AsyncClient(base_url=host.address, trust_env=False, timeout=5) as http:
            answer = await http.get("/api/nodes", headers=self._bearer())
            return NodeList.model_validate_json(answer.content)

    async def _ask_directly(self, host: LocalHost, on_it: Sequence[TenantView]) -> tuple[int, int]:
        """Ask the lost host for durable starts; how many were asked and answered as durable."""
        requests = [
            (f"/{tenant.name}/executions", f"{ZOMBIE_PREFIX}-{tenant.name}-{number}")
            for tenant in on_it
            for number in range(STARTS_AT_ZOMBIE)
        ]
        async with httpx.AsyncClient(
            base_url=host.address,
            trust_env=False,
            timeout=TAKEOVER_TIMEOUT + END_TIMEOUT,
            limits=httpx.Limits(max_connections=len(requests) or 1),
        ) as http:

            async def ask(path: str, id: str) -> bool:
                body = {"workflow": self._workflow, "id": id, "input": self._input}
                with contextlib.suppress(httpx.HTTPError, ValueError):
                    # Its own engines are meant, and not those that it would pass this on to.
                    headers = self._bearer() | {PASSED_HEADER: "1"}
                    answer = await http.post(path, json=body, headers=headers)
                    return answer.is_success and bool(answer.json().get("durable"))
                return False

            answers = await asyncio.gather(*(ask(path, id) for path, id in requests))
        return len(answers), sum(answers)

    def _bearer(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._fleet.token}"}

    async def _owner(self, tenant: str) -> Owner:
        store = S3Store(self._fleet.store_settings)
        found = await asyncio.to_thread(records.read, store, keys.owner(tenant), OwnerRecord)
        if found is None:
            return Owner(epoch=0, host="", incarnation="", state="absent")
        record = found.record
        return Owner(record.epoch, record.host, record.incarnation, record.state)


_DOING = {"kill": "destroying", "freeze": "freezing", "partition": "cutting off"}
_OLD = frozenset({"engine", "sidecar"})
"""The processes of a node that must not outlive its authority."""


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
