"""One engine's executions over HTTP: a tenant's through the fleet's gateway, or by an address."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

from fleet.engine_link import Answer, EngineLink

#: Seconds for which the engine may hold a request for a result at once.
HOLD: Final = 10.0
#: How an execution can stand once nothing more will happen to it by itself.
OVER: Final = frozenset({"completed", "failed", "cancelled", "terminated", "diverged", "parked"})


class Executions(EngineLink):
    """What can be done with the executions of one engine. Every method raises FleetError."""

    def start(
        self,
        workflow: str,
        input: Mapping[str, Any],
        id: str | None,
        reuse: str,
        pinned: bool | None = None,
    ) -> Answer:
        """Start an execution, or get the one that has this id, workflow and input."""
        body = {
            "workflow": workflow,
            "input": dict(input),
            "id": id or uuid4().hex[:16],
            "reuse": reuse,
            **({} if pinned is None else {"pinned": pinned}),
        }
        return self._post("/executions", body)

    def list(
        self, status: str | None = None, workflow: str | None = None, limit: int | None = None
    ) -> Iterator[Answer]:
        """Executions in the order of their start; all of them without a `limit`."""
        query = {"status": status, "workflow": workflow}
        for number, item in enumerate(self._pages("/executions", query, limit or 500)):
            if number == limit:
                return
            yield item

    def show(self, id: str) -> Answer:
        return self._get(_one(id))

    def events(self, id: str) -> Iterator[Answer]:
        """Its part of the log."""
        return self._pages(_one(id) + "/events", {}, 1000)

    def result(self, id: str, wait: float = 0.0) -> Answer:
        """How it stands once it is over, or after `wait` seconds."""
        until = self._clock() + wait
        while True:
            hold = max(0.0, min(HOLD, until - self._clock()))
            answer = self._get(_one(id) + "/result", {"wait": hold, "ack": self._ack}, hold + 30)
            if answer["status"] in OVER or self._clock() >= until:
                return answer

    def waits(self, id: str) -> Answer:
        """What it waits for."""
        return self._get(_one(id) + "/waiting")

    def all_waits(
        self,
        kind: str | None = None,
        workflow: str | None = None,
        longer_than: float | None = None,
        limit: int | None = None,
    ) -> Iterator[Answer]:
        """Open executions with what they wait for; see GET /waiting."""
        query = {"kind": kind, "workflow": workflow, "longer_than": longer_than}
        for number, item in enumerate(self._pages("/waiting", query, limit or 500)):
            if number == limit:
                return
            yield item

    def lines(
        self, id: str | None, level: str | None, limit: int, after: str | None = None
    ) -> Answer:
        """What was logged of late; see GET /log."""
        query = {"execution": id, "level": level, "limit": limit, "after": after}
        return self._get("/log", query)

    def archive(self, id: str, children: bool = False) -> Answer:
        """The execution as a file that `replay` and `import_` take, with those it started."""
        return self._get(_one(id) + "/archive", {"children": children or None})

    def fork(self, id: str, *, new_id: str | None, dry_run: bool, **how: Any) -> Answer:
        """Make a new execution from this one, or say what that would do."""
        body = {"id": new_id or uuid4().hex[:16], "dry_run": dry_run, **how}
        return self._post(_one(id) + "/fork", body)

    def import_(
        self, archive: Mapping[str, Any], *, new_id: str | None, dry_run: bool, **how: Any
    ) -> Answer:
        """Make a new execution from an archive, or say what that would do."""
        body = {"archive": dict(archive), "id": new_id, "dry_run": dry_run, **how}
        return self._post("/executions/import", body)

    def signal(self, id: str, name: str, value: Any, key: str | None) -> Answer:
        body = {"value": value, "key": key or uuid4().hex}
        return self._post(f"{_one(id)}/signals/{quote(name, safe='')}", body)

    def update(self, id: str, name: str, input: Mapping[str, Any], key: str | None) -> Answer:
        body = {"input": dict(input), "key": key or uuid4().hex}
        return self._post(f"{_one(id)}/updates/{quote(name, safe='')}", body)

    def query(self, id: str, name: str, input: Mapping[str, Any]) -> Answer:
        return self._post(f"{_one(id)}/queries/{quote(name, safe='')}", {"input": dict(input)})

    def control(self, id: str, action: str, reason: str | None = None) -> Answer:
        """`cancel`, `terminate`, `pause`, `resume`, `retry` or `unpin` it."""
        return self._post(f"{_one(id)}/{action}", {} if reason is None else {"reason": reason})

    def pin(self, id: str, version: str | None) -> Answer:
        """Keep it to the version that it runs with, or one that is stopped to this version."""
        return self._post(f"{_one(id)}/pin", {} if version is None else {"version": version})

    def versions(self) -> Answer:
        """The versions of the application, and how many open executions need each."""
        return self._get("/versions")

    def delete(self, id: str) -> Answer:
        """Remove a closed one from the log; `events` is None where that was found to be done."""
        answer = self._post(_one(id), {}, method="DELETE")
        return answer or {"id": id, "deleted": True, "events": None, "durable": False}

    def _pages(self, path: str, query: Mapping[str, Any], size: int) -> Iterator[Answer]:
        after: str | None = None
        while True:
            page = self._get(path, {**query, "limit": min(size, 500), "after": after})
            yield from page["items"]
            after = page["next"]
            if after is None:
                return


def _one(id: str) -> str:
    return f"/executions/{quote(id, safe='')}"
