"""A scenario written once and run in four ways: cached, evicted at every await, killed at every
commit, and restored from object storage at every commit.

A scenario is a module of this folder whose name ends in `_scenario`. It has an APP, `drive(engine)`
that is called again in every life, and perhaps WANTED, the outcomes, a CLOCK, and
`check(log, ledger)`. In the place of APP it may have `versions(log)`, which gives the application
and the older versions kept beside it; `drive` returns true to have the engine opened again with
what that gives then.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import secrets
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from backup import keys, records
from backup.lease import boottime
from backup.litestream.sidecar import Sidecar
from backup.ownership import OwnerRecord
from backup.settings import StoreSettings
from backup.store import S3Store
from node.engine.inspection import LogSummary, chain_at, inspect_log
from node.log import adopt_tail, check_restored, create_log, part_log
from node.order import NodeOrder
from node.takeover import Takeover
from tests.integration.engine.harness import killed_after_each_commit, outcomes
from tests.integration.engine.lives import Death, Life, forks

#: Lives between which a log is restored, where not every commit is asked for.
SOME = 2
#: Set to see every commit restored, which takes minutes.
EVERY = bool(os.environ.get("FOUR_WAYS"))
FOLDER = Path(__file__).parent
#: `observer_scenario` is the families again, and `crash_scenario` dies by itself.
LEFT_OUT = {"observer_scenario", "crash_scenario"}
SCENARIOS = sorted(
    f"tests.integration.engine.{path.stem}"
    for path in FOLDER.glob("*_scenario.py")
    if path.stem not in LEFT_OUT
)


@cache
def uninterrupted(module: str, lineage: str = "line") -> tuple[dict[str, Any], int]:
    """The outcomes of a scenario that nothing disturbs, and in how many commits. Chance and
    tokens are of a lineage."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        life = Life(folder / "log.db", folder / "ledger", module, 0, lineage=lineage)
        death = forks().live(life)
        assert death.status == 0
        check(folder, module)
        found = outcomes(folder)
        assert found
        assert found == getattr(importlib.import_module(module), "WANTED", found), found
        return found, death.commits


def evicted(folder: Path, module: str) -> None:
    """Drive it with its code dropped at every await."""
    folder.mkdir(exist_ok=True)
    life = Life(folder / "log.db", folder / "ledger", module, 0, "forced")
    assert forks().live(life).status == 0
    compare(folder, module)


def killed(folder: Path, module: str, mode: str) -> None:
    """Drive it in lives of one commit each."""
    folder.mkdir(exist_ok=True)
    assert killed_after_each_commit(folder, module, mode) > 2
    compare(folder, module)


def restored(folder: Path, module: str, settings: StoreSettings) -> int:
    """Drive it in lives that lose their machine: of one commit each, or of as many as make SOME;
    how many machines were lost."""
    commits = 1 if EVERY else max(1, uninterrupted(module)[1] // (SOME + 1))
    lost = asyncio.run(_restored(folder, module, settings, commits))
    compare(folder, module, inspect_log(folder / "log.db").lineage)
    return lost


def compare(folder: Path, module: str, lineage: str = "line") -> None:
    """Whether it ended as if nothing had happened."""
    found, wanted = outcomes(folder), uninterrupted(module, lineage)[0]
    assert found == wanted, f"it ended as {found}, and uninterrupted as {wanted}"
    check(folder, module)


def check(folder: Path, module: str) -> None:
    """What the scenario itself checks."""
    inspect_log(folder / "log.db")
    own = getattr(importlib.import_module(module), "check", None)
    if own is not None:
        own(folder / "log.db", folder / "ledger")


async def _restored(folder: Path, module: str, settings: StoreSettings, commits: int) -> int:
    before: LogSummary | None = None
    for life in range(300):
        host = Host(folder / f"host-{life}", settings)
        await host.take_over()
        if before is not None:
            # Everything that was uploaded is there.
            assert chain_at(host.log, before.sequence) == before.chain
        try:
            death = await asyncio.to_thread(
                host.begin, Life(host.log, folder / "ledger", module, commits, held=True)
            )
            before = await host.upload()
        finally:
            if death is None:
                death = await asyncio.to_thread(forks().kill)
            await host.lose()
        if death.status == 0:
            # The end, too, is what the bucket holds.
            last = Host(folder / "last", settings)
            await last.take_over()
            await last.lose(keep=folder / "log.db")
            return life
        assert death.status == -9
    raise AssertionError("it never came to an end")


class Host:
    """A machine that takes the tenant over at its next epoch, as a supervisor does."""

    def __init__(self, folder: Path, settings: StoreSettings) -> None:
        self.log = folder / "data" / "log.db"
        self._folder = folder
        self._settings = settings
        self._store = S3Store(settings)

    async def take_over(self) -> None:
        """The protocol's steps 1 to 5, with a sidecar of its own."""
        now = records.read(self._store, keys.owner("acme"), OwnerRecord)
        order = NodeOrder(
            tenant="acme",
            app="none",
            durability="async",
            host="h",
            incarnation=f"lease.{secrets.token_hex(4)}",
            expected=now.etag if now else None,
            authority_ended=True,
            deadline=boottime() + 600,
            store=self._settings,
            sidecar=self._settings.credentials,
        )
        steps = Takeover(order, self._store, check_restored, adopt_tail, part_log, print)
        claim = await steps.claim()
        await steps.bring(claim, self.log)
        if claim.record.parent is None:
            create_log(self.log, "acme", claim.record.lineage)
        prefix = keys.epoch("acme", claim.record.epoch)
        self._sidecar = Sidecar(self._settings, prefix, self.log, self._folder)
        await self._sidecar.start()
        await steps.await_base(claim, self._sidecar)
        await steps.activate(claim)
        self._lineage = claim.record.lineage

    def begin(self, life: Life) -> Death | None:
        """An engine's life, up to its last commit or its end."""
        forks().begin(
            Life(
                life.log,
                life.ledger,
                life.module,
                life.die_after,
                lineage=self._lineage,
                held=life.held,
            )
        )
        return forks().held()

    async def upload(self) -> LogSummary:
        """See what was committed safe in the bucket."""
        seen = await self._sidecar.sync(10.0)
        assert 0 < seen.txid == seen.replicated
        return inspect_log(self.log)

    async def lose(self, keep: Path | None = None) -> None:
        """The machine is lost with its files, but for a copy of the log."""
        self._sidecar.kill()
        await self._sidecar.wait()
        if keep is not None:
            for end in ("", "-wal"):
                shutil.copy(f"{self.log}{end}", f"{keep}{end}")
        shutil.rmtree(self._folder)
