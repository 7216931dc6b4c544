"""`litefleet up`: the fleet of the demo, left running until Ctrl-C."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from backup.settings import StoreSettings
from fleet import DEFAULT_NAME, console, state
from fleet.interrupt import Interrupted, run
from fleet.local import LocalFleet, LocalSettings

LOOK_EVERY = 1.0
"""Seconds between two looks at whether the coordinator is still there."""


def run_up(
    *,
    name: str,
    hosts: int,
    coordinators: int,
    data: Path | None,
    store: StoreSettings | None,
    as_json: bool,
) -> None:
    """Run a fleet until a signal arrives, then stop it in order.

    With `data` everything is kept there, otherwise it is in a temporary folder that is
    removed at the end. Raises Problem, NameTaken and OSError.
    """
    taken = state.read(name)
    if taken is not None:
        raise state.NameTaken(taken)
    folder = data.absolute() if data is not None else Path(tempfile.mkdtemp(prefix="litefleet-up-"))
    settings = LocalSettings(
        name=name, folder=folder, hosts=hosts, coordinators=coordinators, store=store
    )
    try:
        run(_up(settings, as_json), on_signal=lambda: console.note("stopping, please wait"))
    except Interrupted:
        # Before the fleet was up; afterwards a signal is the ordinary end.
        console.note("stopped before the fleet was up")
    finally:
        if data is None:
            shutil.rmtree(folder, ignore_errors=True)


async def _up(settings: LocalSettings, as_json: bool) -> None:
    async with LocalFleet(settings, say=console.note) as fleet:
        state.write(settings.name, fleet.address, fleet.token, store=fleet.store_settings)
        try:
            _announce(fleet, as_json)
            with suppress(asyncio.CancelledError):
                while True:
                    fleet.raise_if_ended()
                    await asyncio.sleep(LOOK_EVERY)
        finally:
            state.remove(settings.name)
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
    console.note("stopped; nothing is left running")


def _announce(fleet: LocalFleet, as_json: bool) -> None:
    if as_json:
        console.print_json(
            {
                "name": fleet.settings.name,
                "address": fleet.address,
                "hosts": sorted(fleet.hosts),
                "folder": str(fleet.settings.folder),
                "store": fleet.store_settings.endpoint,
            }
        )
        return
    option = "" if fleet.settings.name == DEFAULT_NAME else f" --name {fleet.settings.name}"
    console.note(f"the fleet is up at {fleet.address} with {len(fleet.hosts)} hosts")
    console.note(f"in another terminal: litefleet tenant create first --app YOUR_MODULE{option}")
    console.note("Ctrl-C stops it")
