"""One engine's schedules over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from fleet.client import FleetNotFound
from fleet.engine_link import Answer, EngineLink


class Schedules(EngineLink):
    """What can be done with the schedules of one engine. Every method raises FleetError."""

    def create(
        self, id: str, spec: Mapping[str, Any], *, paused: bool, note: str, replace: bool = False
    ) -> Answer:
        """Make one, or get the same one that is there; with `replace`, change one that is."""
        if replace:
            with suppress(FleetNotFound):
                return self._post(_one(id), spec, method="PUT")
        return self._post("/schedules", {**spec, "id": id, "paused": paused, "note": note})

    def delete(self, id: str) -> Answer:
        return {"id": id, "deleted": True, **self._post(_one(id), {}, method="DELETE")}

    def list(self) -> Answer:
        """All of them."""
        return self._get("/schedules")

    def show(self, id: str) -> Answer:
        return self._get(_one(id))

    def pause(self, id: str, note: str) -> Answer:
        return self._post(_one(id) + "/pause", {"note": note})

    def resume(self, id: str) -> Answer:
        return self._post(_one(id) + "/resume", {})

    def trigger(self, id: str, key: str | None, overlap: str | None) -> Answer:
        """Start it once more, now."""
        body = {"key": key or uuid4().hex, "overlap": overlap}
        return self._post(_one(id) + "/trigger", body)

    def backfill(self, id: str, start: float, end: float, overlap: str | None) -> Answer:
        """Have the ticks of a time that has passed happen; unix seconds."""
        body = {"start": start, "end": end, "overlap": overlap}
        return self._post(_one(id) + "/backfill", body)


def _one(id: str) -> str:
    return f"/schedules/{quote(id, safe='')}"
