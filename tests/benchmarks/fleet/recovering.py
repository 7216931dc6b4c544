"""How long the tenants of a lost host are away, phase by phase, beside a bare restore."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from backup import keys
from backup.litestream import binary, config
from backup.settings import StoreSettings
from fleet.coordinator.placement import STARTS_PER_HOST
from fleet.views import Recovery, TenantView
from tests.benchmarks.fleet.place import Place, Stuck, place
from tests.benchmarks.spread import percentiles

PHASES = ("detect", "fence", "claim", "fetch", "verify", "start")


async def one_by_one(*, rounds: int) -> dict[str, Any]:
    """One host with one tenant is lost, and again."""
    async with place(3) as here:
        await here.create(["only"])
        losses: list[tuple[float, Recovery]] = []
        bare: list[float] = []
        for _ in range(rounds):
            await here.run("only", "one")
            await here.quiet(["only"])
            [view] = await here.serving(["only"])
            host, epoch = _where(view)
            at = await here.lose(host)
            [back] = await here.serving(["only"], epoch)
            losses.append((at, back.recoveries[-1]))
            seconds, _ = await bare_restores(here.fleet.store_settings, [("only", epoch)], 1)
            bare += seconds
            await here.fleet.add_host(host)
    return _summary(losses) | {"bare_restore": _both(bare)}


async def all_of_a_host(here: Place, names: Sequence[str]) -> dict[str, Any]:
    """The one host of a fleet, which has all these tenants, is lost; two others take them over."""
    await here.quiet(names)
    views = await here.serving(names)
    [(host, _)] = {_where(view) for view in views}
    for number in (2, 3):
        await here.fleet.add_host(f"host-{number}")
    at = await here.lose(host)
    back = await here.serving(names, 1)
    losses = [(at, view.recoveries[-1]) for view in back]
    logs = [(view.name, 1) for view in views]
    # As many at once as the two hosts were given.
    seconds, whole = await bare_restores(here.fleet.store_settings, logs, 2 * STARTS_PER_HOST)
    return _summary(losses) | {"bare_restore": _both(seconds), "bare_restore_of_all": whole}


def _where(view: TenantView) -> tuple[str, int]:
    if view.host is None:
        raise Stuck(f"{view.name} serves, and is nowhere")
    return view.host, view.epoch


def _summary(losses: Sequence[tuple[float, Recovery]]) -> dict[str, Any]:
    """``rto`` is by this process's clock, from the kill; the phases are the fleet's own, which
    counts from when the host was seen alive last."""
    splits = {phase: _both([getattr(loss.split, phase) for _, loss in losses]) for phase in PHASES}
    after = _both([loss.split.after_detection for _, loss in losses])
    rto = _both([loss.at - at for at, loss in losses])
    return {"tenants": len(losses), "rto": rto, "after_detection": after, "phases": splits}


def _both(values: Sequence[float]) -> dict[str, float]:
    p50, p99 = percentiles(values) if len(values) > 1 else (values[0], values[0])
    return {"p50": p50, "p99": p99}


async def bare_restores(
    store: StoreSettings, logs: Sequence[tuple[str, int]], at_once: int
) -> tuple[list[float], float]:
    """Seconds that `litestream restore` takes for the log of each tenant and epoch, straight from
    the bucket and with no check, and the seconds for all."""
    turns = asyncio.Semaphore(at_once)
    with TemporaryDirectory(prefix="litefleet-", dir="/var/tmp") as folder:

        async def one(tenant: str, epoch: int) -> float:
            database = Path(folder) / f"{tenant}-{epoch}.db"
            file = database.with_suffix(".yml")
            prefix = keys.epoch(tenant, epoch)
            config.for_epoch(store, prefix, database, database.with_suffix(".sock")).write(file)
            async with turns:
                begun = time.monotonic()
                process = await asyncio.create_subprocess_exec(
                    *(str(binary.find()), "restore", "-config", str(file)),
                    *("-o", str(database), str(database)),
                    env=config.environment(store),
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.DEVNULL,
                )
                if await process.wait():
                    raise Stuck(f"litestream cannot restore {prefix}")
                return time.monotonic() - begun

        begun = time.monotonic()
        seconds = await asyncio.gather(*(one(tenant, epoch) for tenant, epoch in logs))
        return list(seconds), time.monotonic() - begun
