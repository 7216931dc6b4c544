"""The demo from its first process to its report."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import platform
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw
import psutil

from backup.errors import StoreError
from backup.litestream import binary as litestream
from backup.settings import StoreSettings
from backup.store import S3Store
from examples.documents.expected import expected
from examples.documents.library import Library, LibraryError, open_library
from fleet import console
from fleet.client import AsyncClient, FleetError
from fleet.demo.check import Finding, count_loss, judge, restored_part
from fleet.demo.check import Loss as CountedLoss
from fleet.demo.display import Display
from fleet.demo.facts import Effect, Expectation, LostLog, TenantFacts
from fleet.demo.load import Load, plan_starts
from fleet.demo.loss import ZOMBIE_PREFIX, Destroyer, How, Loss
from fleet.demo.report import Conditions, Report, compose
from fleet.demo.witness import Log, newest_logs, read_ledger, read_log, read_rows
from fleet.interrupt import run
from fleet.local import LocalFleet, LocalSettings, launch, until
from fleet.machine import Machine
from fleet.problem import Problem
from fleet.views import Durability, Recovery, TenantView
from node.engine.inspection import committed_at
from restore.errors import Damaged, RestoreFailed
from restore.moment import Now, restore

APP = "examples.documents.app"
WORKFLOW = "digest"
EFFECT_STEP = "report"
"""The activity of the application whose calls reach the receiver."""
TABLE = "summaries"
COLUMNS = ("document", "title", "words", "digest", "terms", "refs")

MOST_DOCUMENTS = 100
"""Documents for each tenant by default: enough for hundreds of executions at once."""
SHORTEST, LONGEST = 3.0, 15.0
"""Seconds of an execution's durable timer, drawn for each: they keep hundreds in flight."""
SPAN = 24.0
"""Seconds, for each loss, over which the later starts are spread: longer than a loss is noticed."""
READY_TIMEOUT = 60.0
"""Seconds for all tenants to be provisioned."""
FINISH_TIMEOUT = 180.0
"""Seconds for the work to finish once nothing is destroyed any more."""
LOOK_EVERY = 0.5
"""Seconds between two looks at the tenants for the live table."""

_NAMES = ("acme", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron", "inlet", "jasper")


@dataclass(frozen=True)
class DemoSettings:
    """What the command line asks for. `documents` None: all, up to a limit; `store` None: an
    embedded one; `input` None: the language reference inside CPython. `lose` hosts are lost: those
    that are `named`, then whichever is busiest."""

    tenants: int = 6
    hosts: int = 3
    documents: int | None = None
    input: Path | None = None
    lose: int = 1
    named: tuple[str, ...] = ()
    how: How = "kill"
    store: StoreSettings | None = None
    seed: int = 1
    keep: bool = False


def tenant_names(count: int) -> dict[str, Durability]:
    """Names for the demo's tenants; every other one is `async`, the rest `before_effects`."""
    durabilities: tuple[Durability, Durability] = ("async", "before_effects")
    names = [
        _NAMES[number] if number < len(_NAMES) else f"tenant-{number + 1:02d}"
        for number in range(count)
    ]
    return {name: durabilities[number % 2] for number, name in enumerate(names)}


def run_demo(settings: DemoSettings, live: bool) -> Report:
    """Run the demo and clean up after it. Raises Problem, or Interrupted after a signal."""
    begun = time.monotonic()
    library, documents = _documents(settings)
    folder = Path(tempfile.mkdtemp(prefix="litefleet-demo-"))
    try:
        with Display(live) as display:
            demo = _Demo(settings, library, documents, folder, display, begun)
            return run(demo.run(), on_signal=lambda: display.say("stopping, please wait"))
    finally:
        if settings.store is not None and not settings.keep:
            _empty(settings.store)
        if settings.keep:
            console.note(f"everything is kept in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _documents(settings: DemoSettings) -> tuple[Library, list[str]]:
    folder = settings.input.absolute() if settings.input is not None else None
    try:
        library = open_library(folder)
        ids = library.ids()[: settings.documents or MOST_DOCUMENTS]
        library.titles()
    except LibraryError as error:
        raise Problem(
            "no_documents",
            f"There is nothing to work on: {error}.",
            "Give a folder with text files (--input DIR), or leave it out.",
        ) from error
    return library, ids


def _empty(store: StoreSettings) -> None:
    """Remove what the demo wrote to a store that is not its own; its prefix is."""
    bucket = S3Store(store)
    with contextlib.suppress(StoreError):
        for entry in list(bucket.list("")):
            bucket.delete(entry.key)


class _Demo:
    def __init__(
        self,
        settings: DemoSettings,
        library: Library,
        documents: Sequence[str],
        folder: Path,
        display: Display,
        begun: float,
    ) -> None:
        self._settings = settings
        self._library = library
        self._documents = documents
        self._folder = folder
        self._display = display
        self._begun = begun
        self._tenants = tenant_names(settings.tenants)
        self._findings: list[Finding | str] = []

    async def run(self) -> Report:
        settings = self._settings
        place = LocalSettings(
            name=settings.store.prefix if settings.store is not None else "demo",
            folder=self._folder,
            hosts=settings.hosts,
            store=settings.store,
            links=settings.how == "partition" and settings.lose > 0,
        )
        with Machine("receiver") as receiver:
            url = await self._start_receiver(receiver)
            async with LocalFleet(place, say=self._display.say) as fleet:
                async with fleet.client() as client:
                    await self._provision(fleet, client, url)
                    load, destroyer = await self._work(fleet, client)
                    tenants = await client.tenants()
                self._display.say("stopping the hosts; their tenants are handed to the bucket")
                await fleet.stop(gently=True)
                await asyncio.to_thread(receiver.kill)
                self._display.say("restoring every tenant from the bucket alone, and comparing")
                logs, rows = await self._restore(fleet.store_settings)
        return await asyncio.to_thread(self._report, load, destroyer, tenants, logs, rows)

    # -- the fleet and its tenants --------------------------------------------------------------

    async def _start_receiver(self, receiver: Machine) -> str:
        folder = self._folder / "receiver"
        folder.mkdir(mode=0o700)
        command = [sys.executable, "-m", "examples.receiver", "--port", "0"]
        command += ["--ledger", str(self._ledger), "--address-file", str(folder / "address")]
        return await launch(receiver, command, folder / "address", folder, "the receiver")

    @property
    def _ledger(self) -> Path:
        return self._folder / "receiver" / "ledger.jsonl"

    async def _provision(self, fleet: LocalFleet, client: AsyncClient, receiver: str) -> None:
        self._display.say(f"creating {len(self._tenants)} tenants")
        env = {"RECEIVER_URL": receiver}
        if self._settings.input is not None:
            env["DOCUMENTS_DIR"] = str(self._settings.input.absolute())
        for name, durability in self._tenants.items():
            await client.create_tenant(name, APP, durability, env)
        waiting: list[str] = []

        async def ready() -> bool:
            nonlocal waiting
            fleet.raise_if_ended()
            await self._look(client)
            board = self._display.board.tenants
            waiting = [one.name for one in board if not _serves(one)]
            return len(board) == len(self._tenants) and not waiting

        if not await until(ready, READY_TIMEOUT):
            raise Problem(
                "not_provisioned",
                f"Not every tenant came up within {READY_TIMEOUT:.0f} s: {', '.join(waiting)}.",
                "Run it again with --keep and look into the logs in its folder.",
            )

    async def _look(self, client: AsyncClient) -> None:
        with contextlib.suppress(FleetError):
            self._display.board.tenants = await client.tenants()
            self._display.follow(await client.timeline(self._display.seen))

    # -- the work, and the loss in its middle ---------------------------------------------------

    async def _work(self, fleet: LocalFleet, client: AsyncClient) -> tuple[Load, Destroyer]:
        async with contextlib.AsyncExitStack() as clients:
            load = self._load(
                {name: await clients.enter_async_context(fleet.client()) for name in self._tenants}
            )
            return load, await self._work_on(load, fleet, client)

    async def _work_on(self, load: Load, fleet: LocalFleet, client: AsyncClient) -> Destroyer:
        settings = self._settings
        self._display.board.planned = load.planned
        evidence = self._folder / "evidence"
        destroyer = Destroyer(
            fleet,
            client,
            settings.how,
            evidence,
            WORKFLOW,
            {"document": self._documents[0]},
            self._display.say,
        )
        self._display.say(f"starting {load.planned} executions over HTTP")
        working = asyncio.create_task(load.run())
        others = [
            asyncio.create_task(self._keep_looking(client, load)),
            asyncio.create_task(self._destroy(destroyer, load)),
        ]
        try:
            await self._await_work(fleet, working, others[1], load)
        finally:
            for task in (working, *others):
                task.cancel()
            await asyncio.gather(working, *others, return_exceptions=True)
        await self._look(client)
        return destroyer

    def _load(self, clients: Mapping[str, AsyncClient]) -> Load:
        chance = random.Random(self._settings.seed)
        inputs = [
            {"document": id, "pause": round(chance.uniform(SHORTEST, LONGEST), 2)}
            for id in self._documents
        ]
        starts = plan_starts(
            self._tenants,
            inputs,
            [_slug(number, id) for number, id in enumerate(self._documents)],
            WORKFLOW,
            span=SPAN * max(1, self._settings.lose),
            seed=self._settings.seed,
        )
        return Load(clients, starts)

    async def _keep_looking(self, client: AsyncClient, load: Load) -> None:
        while True:
            await self._look(client)
            self._display.board.finished = load.finished
            await asyncio.sleep(LOOK_EVERY)

    async def _destroy(self, destroyer: Destroyer, load: Load) -> None:
        """Lose the hosts at even shares of the work: the first when a third of it is done."""
        for number in range(self._settings.lose):
            share = (number + 1) / (self._settings.lose + 2)

            async def far_enough(share: float = share) -> bool:
                return load.over >= share * load.planned

            await until(far_enough, math.inf)
            named = self._settings.named
            await destroyer.lose_one(named[number] if number < len(named) else None)
        load.settle()

    async def _await_work(
        self,
        fleet: LocalFleet,
        working: asyncio.Task[None],
        destroying: asyncio.Task[None],
        load: Load,
    ) -> None:
        deadline: float | None = None
        while not working.done():
            fleet.raise_if_ended()
            if destroying.done():
                destroying.result()
                deadline = deadline or time.monotonic() + FINISH_TIMEOUT
            if deadline is not None and time.monotonic() > deadline:
                self._findings.append(
                    f"the work did not finish within {FINISH_TIMEOUT:.0f} s after the last loss: "
                    f"{load.finished} of {load.planned} executions"
                )
                return
            await asyncio.wait([working], timeout=LOOK_EVERY)
        working.result()

    # -- the count ------------------------------------------------------------------------------

    async def _restore(
        self, store: StoreSettings
    ) -> tuple[dict[str, Log], dict[str, list[Mapping[str, object]]]]:
        logs: dict[str, Log] = {}
        rows: dict[str, list[Mapping[str, object]]] = {}
        for tenant in self._tenants:
            into = self._folder / "restored" / tenant
            try:
                done = await restore(store, tenant, Now(), into, lambda path: path, committed_at)
                database = done.fetched.database
                logs[tenant] = await asyncio.to_thread(read_log, database, EFFECT_STEP)
                rows[tenant] = await asyncio.to_thread(read_rows, database, TABLE, COLUMNS, ())
            except (Damaged, RestoreFailed, StoreError, apsw.Error, ValueError) as error:
                self._findings.append(f"{tenant}: cannot be restored from the bucket: {error}")
        return logs, rows

    def _report(
        self,
        load: Load,
        destroyer: Destroyer,
        tenants: Sequence[TenantView],
        logs: Mapping[str, Log],
        rows: Mapping[str, Sequence[Mapping[str, object]]],
    ) -> Report:
        effects, findings = _without_probes(read_ledger(self._ledger), self._tenants)
        outcomes = {id: expected(self._library.read(id), self._library) for id in self._documents}
        facts = []
        for tenant, durability in self._tenants.items():
            log = logs.get(tenant)
            expectations = {}
            for number, id in enumerate(self._documents):
                execution = f"{tenant}-{_slug(number, id)}"
                outcome = outcomes[id]
                expectations[execution] = Expectation(
                    execution, outcome.result, outcome.row, outcome.effect
                )
            facts.append(
                TenantFacts(
                    tenant=tenant,
                    durability=durability,
                    expected=expectations,
                    acknowledged=tuple(load.acknowledged[tenant]),
                    completions=tuple(load.completions[tenant]),
                    executions=log.executions if log is not None else {},
                    rows=tuple(rows.get(tenant, ())),
                    effects=tuple(effect for effect in effects if effect.tenant == tenant),
                )
            )
        strangers = {effect.tenant for effect in effects} - self._tenants.keys()
        findings += [
            *self._findings,
            *load.strange,
            *(finding for loss in destroyer.losses for finding in loss.findings),
            *(f"the receiver saw effects of an unknown tenant {name!r}" for name in strangers),
        ]
        if len(destroyer.losses) < self._settings.lose:
            findings.append(
                f"only {len(destroyer.losses)} of {self._settings.lose} hosts were lost: "
                "the work was over before"
            )
        losses = [one for loss in destroyer.losses for one in self._count(loss, logs, findings)]
        return compose(
            facts=facts,
            verdicts=[judge(one) for one in facts],
            losses=losses,
            lost_hosts=[loss.report for loss in destroyer.losses],
            zombies=[loss.zombie for loss in destroyer.losses if loss.zombie is not None],
            recoveries=_recoveries(tenants, destroyer.losses),
            places={view.name: (view.host, view.epoch) for view in tenants},
            how=self._settings.how,
            retries=load.retries,
            other_findings=findings,
            seconds=time.monotonic() - self._begun,
            conditions=self._conditions(),
        )

    def _count(
        self, loss: Loss, logs: Mapping[str, Log], findings: list[Finding | str]
    ) -> list[CountedLoss]:
        """What each tenant of a lost host lost: its file there against the final log."""
        counted = []
        on_host = newest_logs(loss.copies, EFFECT_STEP)
        for tenant in loss.report.tenants:
            found, final = on_host.get(tenant), logs.get(tenant)
            if found is None or final is None:
                findings.append(f"{tenant}: no readable log was found on {loss.report.host}")
                continue
            # What only the lost host was asked for is the observer's own doing, not the load's.
            events = tuple(
                event for event in found.events if not event.execution.startswith(ZOMBIE_PREFIX)
            )
            log = LostLog(
                tenant=tenant,
                durability=self._tenants[tenant],
                lost_at=loss.lost_at,
                on_host=events,
                restored=restored_part(found.events, final.events),
            )
            counted.append(count_loss(log))
        return counted

    def _conditions(self) -> Conditions:
        store = self._settings.store
        return Conditions(
            cores=len(os.sched_getaffinity(0)),
            memory_mb=psutil.virtual_memory().total // 2**20,
            system=f"{platform.system()} {platform.machine()}",
            python=platform.python_version(),
            sqlite=apsw.sqlite_lib_version(),
            litestream=litestream.VERSION,
            store="embedded SeaweedFS" if store is None else f"S3 at {store.endpoint}",
            seed=self._settings.seed,
        )


def _without_probes(
    effects: Sequence[Effect], tenants: Mapping[str, Durability]
) -> tuple[list[Effect], list[Finding | str]]:
    """The ledger without the executions that only a lost host was asked for, and what is wrong
    with those.

    Under `async` a host that is cut off has effects until its deadline ends it. Under
    `before_effects` it must have none: nothing that it intends can be proven any more.
    """
    probes = [effect for effect in effects if effect.execution.startswith(ZOMBIE_PREFIX)]
    findings: list[Finding | str] = [
        Finding(
            "effect_without_authority",
            effect.tenant,
            effect.execution,
            f"{effect.execution} reached the receiver, though its host was lost before it began",
        )
        for effect in probes
        if tenants.get(effect.tenant) != "async"
    ]
    return [effect for effect in effects if effect not in probes], findings


def _serves(tenant: TenantView) -> bool:
    return tenant.state == "active" and tenant.serving


def _slug(number: int, document: str) -> str:
    """A part of an execution's id that names its document and is unique among all."""
    words = re.sub(r"[^a-z0-9]+", "-", document.lower()).strip("-")[:40]
    return f"{number:03d}-{words}" if words else f"{number:03d}"


def _recoveries(tenants: Sequence[TenantView], losses: Sequence[Loss]) -> list[Recovery]:
    lost = {(loss.report.host, tenant) for loss in losses for tenant in loss.report.tenants}
    return [
        recovery
        for view in tenants
        for recovery in view.recoveries
        if (recovery.from_host, recovery.tenant) in lost
    ]
