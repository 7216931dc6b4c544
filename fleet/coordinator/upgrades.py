"""Another version of a tenant's application: checked on its node, recorded, then run in place.

Only the record in the bucket counts. Whatever dies in the middle, the tenant runs the code that
was wanted before, or the one that is wanted now: `decide` sees to it that a node is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
from pydantic import BaseModel

from backup import keys, records
from backup.errors import Precondition
from backup.ownership import TenantRecord
from backup.store import ObjectStore
from fleet.agent.nodes import CodeRequest
from fleet.coordinator.history import Steps
from fleet.coordinator.picture import Upgrade
from fleet.views import ErrorBody, UpgradeView, UpgradeWanted
from node.checks import CheckStatus
from node.engine.upgrade import UpgradeReport
from node.order import ENDED

if TYPE_CHECKING:
    from fleet.coordinator.coordinator import Coordinator

TELL_AGAIN = 5.0
"""Seconds before a node that has not taken up its new code is told again."""
CHECK_WAIT = 0.5
"""Seconds for which an agent holds a question about a check."""
SERVING_WITHIN = 60.0
"""Seconds for a restarted engine to serve."""
PINS_AT_ONCE = 16


class UpgradeRunning(Exception):
    """There is one under way for this tenant."""


class _Stop(Exception):
    """The end of an upgrade that does not go on; ``refused`` when nothing was changed."""

    def __init__(self, type: str, message: str, hint: str, *, refused: bool = True) -> None:
        super().__init__(message)
        self.state = "refused" if refused else "failed"
        self.problem = ErrorBody(type=type, message=message, hint=hint)


class Upgrades:
    """The upgrades that this coordinator has been asked for, one at a time for each tenant."""

    def __init__(
        self, fleet: Coordinator, store: ObjectStore, http: httpx.AsyncClient, token: str
    ) -> None:
        self._fleet = fleet
        self._store = store
        self._http = http
        self._headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        self._views: dict[str, UpgradeView] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def look(self, name: str) -> UpgradeView | None:
        """The newest upgrade of a tenant since this coordinator began."""
        return self._views.get(name)

    def begin(self, name: str, asked: UpgradeWanted) -> UpgradeView:
        """Begin one. Raises `UpgradeRunning`."""
        if (task := self._tasks.get(name)) is not None and not task.done():
            raise UpgradeRunning(f"{name} is being upgraded already")
        wanted = self._fleet.tenants[name].wanted
        app = asked.app or wanted.app
        kept = kept_beside(app, wanted, asked)
        view = UpgradeView(tenant=name, app=app, kept=list(kept), check=asked.check)
        self._views[name] = view
        self._tasks[name] = asyncio.create_task(self._run(view, asked, wanted))
        return view

    async def close(self) -> None:
        """Stop following them. What is recorded is carried out all the same."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    # -- one upgrade ----------------------------------------------------------------------------

    async def _run(self, view: UpgradeView, asked: UpgradeWanted, wanted: TenantRecord) -> None:
        began_at, steps = time.time(), Steps()
        try:
            check = await self._check(view, asked)
            await self._count(view, check)
            steps.over("check")
            if asked.check:
                view.state = "done"
                return
            await self._settle(view, asked, wanted, check)
            view.release = await self._want(view, wanted)
            steps.over("record")
            view.state = "restarting"
            await self._await_serving(view, wanted)
            steps.over("restart")
            view.state = "done"
        except _Stop as stop:
            view.state, view.problem = stop.state, stop.problem  # type: ignore[assignment]
        except Exception as error:  # whatever it is, somebody waits for the end
            view.state = "failed"
            view.problem = ErrorBody(
                type="upgrade_failed",
                message=f"It could not be carried to its end: {type(error).__name__}: {error}",
                hint=f"`litefleet tenant show {view.tenant}` tells what is wanted; the same command"
                " can be given again.",
            )
        if not asked.check:
            self._fleet.history.note(
                "upgrade",
                tenant=view.tenant,
                began_at=began_at,
                steps=steps.taken,
                outcome=view.state if view.state in ("done", "refused") else "failed",
                error=view.problem.message if view.problem is not None else "",
                data={"app": view.app, "before": wanted.app, "release": view.release},
            )

    async def _check(self, view: UpgradeView, asked: UpgradeWanted) -> CheckStatus:
        """Have the new code follow the log, where the log is."""
        name = view.tenant
        code = CodeRequest(app=view.app, kept=tuple(view.kept))
        try:
            answer = await self._ask_agent(name, "POST", "check", code)
            check = CheckStatus.model_validate_json(answer.content)
            while check.state == "running":
                answer = await self._ask_agent(name, "GET", "check", wait=CHECK_WAIT)
                check = CheckStatus.model_validate_json(answer.content)
                view.done, view.of = check.done, check.of
        except httpx.HTTPStatusError as error:
            words = _words(error.response)
            hint = f"Nothing was changed. `litefleet tenant show {name}` tells how it stands."
            raise _Stop("no_check", f"The check was not made: {words}", hint) from error
        if check.report is not None:
            view.report, view.left_out = check.report.model_dump(mode="json"), check.left_out
        problem = check.problem
        if problem is None or (asked.stopped == "force" and problem.type == "check_failed"):
            return check
        trace = f"\n{problem.trace}" if problem.trace else ""
        raise _Stop(problem.type, f"{problem.message}{trace}", problem.hint or _MEND)

    async def _count(self, view: UpgradeView, check: CheckStatus) -> None:
        """How many would be stopped of those that go on now; takes the others out of those to be
        pinned."""
        if check.report is None:
            return
        found = {finding.execution for finding in check.report.findings} | set(check.to_pin)
        if not found:
            return
        stands = found & await self._standing_still(view.tenant)
        view.stopped_before = len(stands)
        view.would_stop = len(check.report.findings) + view.left_out - len(stands)
        check.to_pin = [id for id in check.to_pin if id not in stands]

    async def _standing_still(self, name: str) -> set[str]:
        """The executions that do not go on with the code that runs now."""
        found: set[str] = set()
        for status in ("diverged", "parked"):
            after: str | None = "0"
            while after is not None:
                path = f"executions?status={status}&limit=500&after={after}"
                answer = await self._ask_engine(name, "GET", path)
                # One that does not serve tells nothing, and then they all count.
                page = answer.json() if answer.is_success else {"items": [], "next": None}
                found |= {one["id"] for one in page["items"]}
                after = page["next"]
        return found

    async def _settle(
        self, view: UpgradeView, asked: UpgradeWanted, wanted: TenantRecord, check: CheckStatus
    ) -> None:
        """Go on only if nothing would be stopped, or somebody has chosen that."""
        if check.report is None or not view.would_stop or asked.stopped == "force":
            return
        if asked.stopped == "refuse":
            raise _Stop(
                "would_stop",
                f"{view.would_stop} open executions of {view.tenant} would not go on; nothing was"
                " changed.",
                "Make the new code follow them, keep what they are pinned to with --keep, or choose"
                " --pin-diverging or --force.",
            )
        if len(check.to_pin) < view.would_stop:
            raise _Stop(
                "would_stop",
                f"{view.would_stop - len(check.to_pin)} executions are pinned to versions that are"
                " not kept, or do not follow them any more; nothing was changed.",
                "Keep those versions, as they were, with --keep.",
            )
        await self._pin(view, check.report, wanted, check.to_pin)

    async def _pin(
        self, view: UpgradeView, report: UpgradeReport, wanted: TenantRecord, ids: list[str]
    ) -> None:
        answer = await self._ask_engine(view.tenant, "GET", "versions")
        items = answer.json().get("items", []) if answer.is_success else []
        version = next((one["version"] for one in items if one["current"]), None)
        if version is None or version not in report.kept:
            what = "without a version" if version is None else f"version {version}"
            raise _Stop(
                "not_kept",
                f"{view.tenant} runs {wanted.app} {what}, which would not be kept beside"
                f" {view.app}; nothing was changed.",
                "Give it an APPLICATION_VERSION, and keep it with --keep FOLDER:MODULE.",
            )
        view.state = "pinning"
        turns = asyncio.Semaphore(PINS_AT_ONCE)

        async def pin(id: str) -> None:
            async with turns:
                path = f"executions/{quote(id, safe='')}/pin"
                answer = await self._ask_engine(view.tenant, "POST", path, {})
            # One that has ended meanwhile needs nothing.
            if answer.status_code not in (200, 404, 409):
                answer.raise_for_status()
            view.pinned += answer.is_success

        await asyncio.gather(*(pin(id) for id in ids))

    async def _want(self, view: UpgradeView, before: TenantRecord) -> int:
        """Change the wanted state in the bucket, if it is still this one; its release."""
        name, key = view.tenant, keys.wanted(view.tenant)
        now = await asyncio.to_thread(records.read, self._store, key, TenantRecord)
        try:
            if now is None or now.record.release != before.release:
                raise Precondition(f"{key} has changed")
            fields = {"app": view.app, "kept": tuple(view.kept), "release": before.release + 1}
            wanted = now.record.model_copy(update=now.record.succeeded_by(**fields))
            await asyncio.to_thread(records.swap, self._store, key, wanted, now.etag)
        except Precondition as error:
            raise _Stop(
                "changed_meanwhile",
                f"Somebody else has changed {name} meanwhile; nothing was changed here.",
                f"Look at it with `litefleet tenant show {name}`, then try again.",
            ) from error
        self._fleet.tenants[name].wanted = wanted
        words = f"{name} shall run {wanted.app}, release {wanted.release}"
        self._fleet.timeline.note("upgrade_wanted", words, tenant=name)
        self._fleet.wake()
        return wanted.release

    async def _await_serving(self, view: UpgradeView, before: TenantRecord) -> None:
        name, until = view.tenant, time.monotonic() + SERVING_WITHIN
        while time.monotonic() < until:
            node = self._fleet.tenants[name].node
            if node is not None and node.release >= view.release and node.serving:
                # It may just be lost again.
                with contextlib.suppress(_Stop, httpx.HTTPError):
                    status = await self._ask_engine(name, "GET", "status")
                    versions = await self._ask_engine(name, "GET", "versions")
                    if status.is_success and versions.is_success:
                        counts = status.json()["executions"]
                        view.stopped = counts["diverged"] + counts["parked"]
                        view.versions = versions.json()["items"]
                        return
            await asyncio.sleep(0.1)
        node = self._fleet.tenants[name].node
        words = node.incidents[-1].partition(" ")[2] if node and node.incidents else "no word of it"
        keep = "".join(f" --keep {one}" for one in before.kept)
        raise _Stop(
            "not_serving",
            f"{name} is to run {view.app} and does not serve after {SERVING_WITHIN:.0f} s: {words}",
            f"Go back with `litefleet tenant upgrade {name} --app {before.app}{keep}`.",
            refused=False,
        )

    # -- speaking to the node -------------------------------------------------------------------

    async def order(self, action: Upgrade) -> None:
        """Tell a node of its new code. One that does not hear of it is told again, until it says
        that it has it."""
        tenant = self._fleet.tenants[action.tenant]
        tenant.upgrade_after = time.monotonic() + TELL_AGAIN
        wanted = tenant.wanted
        code = CodeRequest(app=wanted.app, kept=wanted.kept, release=wanted.release)
        try:
            await self._ask_agent(action.tenant, "POST", "upgrade", code)
        except (httpx.HTTPError, _Stop):
            return
        self._fleet.timeline.note(
            "upgrade_ordered",
            f"{action.host} restarts the engine of {action.tenant} with {wanted.app}",
            tenant=action.tenant,
            host=action.host,
            release=wanted.release,
        )

    def _address(self, name: str) -> str:
        """Where the agent of the tenant's host answers. Raises `_Stop`."""
        node = self._fleet.tenants[name].node
        host = self._fleet.observer.hosts.get(node.host) if node is not None else None
        if node is None or host is None or node.state in ENDED:
            raise _Stop(
                "not_running",
                f"{name} is on no host at present; nothing was changed.",
                f"Wait until it is: `litefleet tenant show {name}`.",
            )
        return host.address

    async def _ask_agent(
        self, name: str, method: str, what: str, body: BaseModel | None = None, **query: float
    ) -> httpx.Response:
        """Raises `_Stop`, and `httpx.HTTPError` also for an answer that is an error."""
        answer = await self._http.request(
            method,
            f"{self._address(name)}/api/nodes/{name}/{what}",
            content=None if body is None else body.model_dump_json(),
            params=query,
            headers=self._headers,
            timeout=30.0,
        )
        answer.raise_for_status()
        return answer

    async def _ask_engine(
        self, name: str, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> httpx.Response:
        """Raises `_Stop`, and `httpx.HTTPError` where there is no answer."""
        url = f"{self._address(name)}/{name}/{path}"
        return await self._http.request(method, url, json=body, headers=self._headers, timeout=60.0)


_MEND = "Mend it, then try again. Nothing was changed."


def kept_beside(app: str, wanted: TenantRecord, asked: UpgradeWanted) -> tuple[str, ...]:
    """The older versions beside the new application, each as FOLDER:MODULE: what was asked for,
    or else what there is already; to pin, also the one that is the current one so far."""
    module = app.rpartition(":")[2]
    given = wanted.kept if asked.keep is None else asked.keep
    kept = [one if ":" in one else f"{one}:{module}" for one in given]
    if asked.stopped == "pin" and ":" in wanted.app:
        kept.append(wanted.app)
    return tuple(dict.fromkeys(one for one in kept if one != app))


def _words(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"
