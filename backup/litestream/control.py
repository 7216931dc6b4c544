"""Litestream's control socket: what it is asked, and what of its answers is believed.

Facts about 0.5.17 that shape this module: ``/sync`` can answer 200 with nothing uploaded, so only
the two positions in its answer count and the ``status`` word is ignored; ``/txid`` must be above 0
before the first ``/sync``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx


class ControlError(Exception):
    """The sidecar did not answer, or answered with an error."""


@dataclass(frozen=True, slots=True)
class Positions:
    """The transaction that is in the local LTX files, and the last one known to be uploaded.

    ``replicated == 0`` means unknown.
    """

    txid: int
    replicated: int


class Control:
    """A client of one sidecar's socket, for the one database that it replicates."""

    def __init__(self, socket: Path, database: Path):
        self._database = str(database)
        self._http = httpx.AsyncClient(
            # Without the world's certificates, which would be a megabyte of each supervisor's.
            transport=httpx.AsyncHTTPTransport(uds=str(socket), verify=False),
            base_url="http://litestream",
        )

    async def txid(self) -> int:
        """The local position; 0 until the database was first read."""
        answer = await self._ask("GET", "/txid", params={"path": self._database}, timeout=2.0)
        return int(answer["txid"])

    async def sync(self, *, wait: bool, timeout: float) -> Positions:
        """Read the WAL, and with ``wait`` upload it too, within ``timeout`` seconds."""
        body: dict[str, Any] = {"path": self._database, "wait": wait}
        if wait:
            # Litestream counts in whole seconds; the client's own timeout is the exact one.
            body["timeout"] = max(1, round(timeout))
        answer = await self._ask("POST", "/sync", json=body, timeout=timeout + 0.5)
        return Positions(int(answer.get("txid", 0)), int(answer.get("replicated_txid", 0)))

    async def restart_replication(self) -> None:
        """Stop and start the database's replication: the cure for an upload that hangs."""
        for verb in ("/stop", "/start"):
            body = {"path": self._database, "timeout": 5}
            await self._ask("POST", verb, json=body, timeout=6.0)

    async def close(self) -> None:
        await self._http.aclose()

    async def _ask(self, method: str, path: str, **more: Any) -> Any:
        try:
            answer = await self._http.request(method, path, **more)
        except httpx.HTTPError as error:
            raise ControlError(f"{path}: {type(error).__name__}: {error}") from error
        if answer.status_code != 200:
            raise ControlError(f"{path}: {answer.status_code} {answer.text.strip()[:200]}")
        return answer.json()
