"""Independent copies of the fleet's tenants: ordered, kept for a while, let go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

import httpx
from pydantic import ValidationError

from backup import copies
from backup.copies import Copy
from backup.store import ObjectStore
from fleet.coordinator.account import Tenant
from fleet.coordinator.observe import Observer
from fleet.coordinator.rounds import NoHost
from fleet.coordinator.timeline import TimelineLog

TIMEOUT = 900.0
"""Seconds for one copy."""


class Copies:
    """Orders copies from the hosts where the tenants live, and removes old ones."""

    def __init__(
        self,
        store: ObjectStore,
        observer: Observer,
        tenants: Mapping[str, Tenant],
        timeline: TimelineLog,
        http: httpx.AsyncClient,
        token: str,
        *,
        keep_days: int,
        keep_least: int,
        clock: Callable[[], float] = time.time,
    ):
        """
        Args:
            keep_days, keep_least: see `copies.expired`.
            clock: unix seconds.
        """
        self._store = store
        self._observer = observer
        self._tenants = tenants
        self._timeline = timeline
        self._http = http
        self._headers = {"authorization": f"Bearer {token}"}
        self._keep_days = keep_days
        self._keep_least = keep_least
        self._clock = clock
        self._looked_at: dict[str, float | None] = {}

    async def of(self, name: str) -> list[Copy]:
        """A tenant's copies, oldest first. Raises `StoreError`."""
        return await asyncio.to_thread(copies.read, self._store, name)

    async def made_at(self, name: str) -> float | None:
        """When a tenant was last copied, or found not to have changed since; unix seconds.

        Raises:
            StoreError: the bucket could not be read.
        """
        if name not in self._looked_at:
            known = await self.of(name)
            self._looked_at[name] = known[-1].made_at if known else None
        return self._looked_at[name]

    async def copy(self, name: str) -> Copy:
        """Have a tenant copied where it lives, and old copies of it removed.

        Raises:
            NoHost: it does not live anywhere now, or could not be copied there.
            StoreError: old copies could not be removed.
        """
        node = self._tenants[name].node
        host = self._observer.hosts.get(node.host) if node is not None else None
        if node is None or host is None:
            raise NoHost(f"{name} has no node that could copy it now")
        began_at = self._clock()
        try:
            answer = await self._http.post(
                f"{host.address}/api/nodes/{name}/copy", headers=self._headers, timeout=TIMEOUT
            )
            if answer.status_code in (404, 503):
                raise NoHost(str(answer.json()["error"]["message"]))
            answer.raise_for_status()
            made = Copy.model_validate_json(answer.content)
        except (httpx.HTTPError, ValidationError) as error:
            raise NoHost(f"{name} was not copied: {error}") from error
        self._looked_at[name] = self._clock()
        self._timeline.note(
            "copied",
            f"{name} has an independent copy of {made.bookmark}",
            tenant=name,
            copy=made.name,
            bytes=made.packed,
        )
        self._timeline.history.note(
            "copy",
            tenant=name,
            began_at=began_at,
            steps={"copy": self._clock() - began_at},
            from_host=node.host,
            data={"copy": made.name, "bookmark": made.bookmark, "bytes": made.packed},
        )
        for old in copies.expired(
            await self.of(name), self._clock(), self._keep_days, self._keep_least
        ):
            await asyncio.to_thread(copies.remove, self._store, old)
        return made
