"""Drills of the fleet: whose backup is restored next, where, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

import httpx
from pydantic import ValidationError

from backup.settings import REVEAL
from backup.store import ObjectStore
from fleet.agent.drilling import DrillDone, DrillRequest
from fleet.agent.nodes import Chain
from fleet.coordinator.account import Tenant
from fleet.coordinator.observe import Observer
from fleet.coordinator.rounds import NoHost
from fleet.coordinator.timeline import TimelineLog
from fleet.issuer import CredentialIssuer
from restore import drill as drills
from restore.drill import Drill, DrillRecord, Source, judge

TIMEOUT = 900.0
"""Seconds for one drill."""


class Drills:
    """Orders drills, one at a time for the fleet, and keeps their record in the bucket."""

    def __init__(
        self,
        store: ObjectStore,
        issuer: CredentialIssuer,
        observer: Observer,
        tenants: Mapping[str, Tenant],
        timeline: TimelineLog,
        http: httpx.AsyncClient,
        token: str,
    ):
        self._store = store
        self._issuer = issuer
        self._observer = observer
        self._tenants = tenants
        self._timeline = timeline
        self._http = http
        self._headers = {"authorization": f"Bearer {token}"}
        self._turn = asyncio.Lock()
        self.known: dict[str, DrillRecord] = {}
        """What is known of each tenant's drills, from the bucket."""
        self.running: str | None = None
        """The tenant whose drill is under way."""

    async def verified_at(self, name: str) -> float | None:
        """When a tenant's backup was last restored well, in unix seconds. Raises `StoreError`."""
        await self._read([name])
        return self.known[name].verified_at

    async def all(self) -> list[DrillRecord]:
        """The drills of every tenant, by name. Raises `StoreError`."""
        await self._read(self._tenants)
        return [self.known[name] for name in sorted(self._tenants)]

    async def _read(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self.known:
                self.known[name] = await asyncio.to_thread(drills.read, self._store, name)

    async def drill(self, name: str) -> Drill:
        """Have a host restore a tenant's backup, judge what it found, and record that.

        Raises:
            NoHost: none can do it now.
            StoreError: the bucket could not be read, or the record not be written.
        """
        async with self._turn:
            # Before anything is read: what is deleted is not removed meanwhile.
            self.running = name
            try:
                judged = await self._drill(name)
            finally:
                self.running = None
        verdict = "its backup was restored and is whole" if judged.ok else judged.finding
        self._timeline.note(
            "drill_passed" if judged.ok else "drill_failed",
            f"{name}: {verdict}",
            tenant=name,
            host=judged.host,
            seconds=judged.seconds,
        )
        self._timeline.history.note(
            "drill",
            tenant=name,
            steps={"fetch": judged.fetch, "verify": judged.verify},
            began_at=judged.began_at,
            epoch_before=judged.epoch or None,
            to_host=judged.host or None,
            outcome="done" if judged.ok else "failed",
            error=judged.finding,
            data={"bookmark": judged.bookmark},
        )
        return judged

    async def _drill(self, name: str) -> Drill:
        tenant = self._tenants[name]
        source = _source_of(tenant)
        try:
            done = await self._order(name, tenant)
            live = await self._live_chain(name, done.drill)
        except (httpx.HTTPError, ValidationError) as error:
            raise NoHost(f"no host carried the drill out: {error}") from error
        judged = judge(done.drill, done.chain, source, live)
        self.known[name] = await asyncio.to_thread(drills.note, self._store, judged)
        return judged

    async def _order(self, name: str, tenant: Tenant) -> DrillDone:
        sidecar = await tenant.issued(self._issuer)
        chosen = self._observer.quiet_host(name)
        if chosen is None:
            raise NoHost("no host of the fleet is fit for a drill now")
        answer = await self._http.post(
            f"{chosen.address}/api/drills/{name}",
            content=DrillRequest(sidecar=sidecar).model_dump_json(context=REVEAL),
            headers={**self._headers, "content-type": "application/json"},
            timeout=TIMEOUT,
        )
        answer.raise_for_status()
        return DrillDone.model_validate_json(answer.content)

    async def _live_chain(self, name: str, drill: Drill) -> str | None:
        node = self._tenants[name].node
        host = self._observer.hosts.get(node.host) if node is not None else None
        if host is None:
            return None
        try:
            answer = await self._http.get(
                f"{host.address}/api/nodes/{name}/chain",
                params={"sequence": drill.sequence},
                headers=self._headers,
                timeout=10.0,
            )
        except httpx.HTTPError:
            return None
        if answer.status_code != 200:
            return None
        chain = Chain.model_validate_json(answer.content)
        # It has moved meanwhile, perhaps without an asynchronous tail that the drill still saw.
        return chain.value if chain.epoch == drill.epoch else None


def _source_of(tenant: Tenant) -> Source:
    node = tenant.node
    if node is None or not node.epoch:
        return Source()
    return Source(node.epoch, node.lag.proven_sequence, node.lag.seconds)
