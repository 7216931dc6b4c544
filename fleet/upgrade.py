"""An upgrade check of what lies in files: logs, exported executions, and folders of both."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from fleet.problem import Problem
from fleet.replay import files_of, is_log
from node.engine.application import Application
from node.engine.archive import Archive
from node.engine.durability import Durability
from node.engine.errors import PayloadError
from node.engine.events import CLOSING
from node.engine.snapshot import since_begun
from node.engine.upgrade import UpgradeCheck, UpgradeReport


def check_files(
    paths: Iterable[Path],
    application: Application,
    kept: Iterable[Application] = (),
    *,
    floor: Durability = Durability.ASYNC,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> UpgradeReport:
    """What it would mean for the open executions in these files to go on with this application.

    A log may be in use. `floor` is the durability of the tenants that logs are from; an archive
    says its own. Raises Problem when a file cannot be read.
    """
    check = UpgradeCheck(application, tuple(kept))
    for path in files_of(paths):
        if is_log(path):
            check.add_log(path, floor=floor, progress=progress)
        else:
            _add_archive(check, path)
    return check.report


def _add_archive(check: UpgradeCheck, path: Path) -> None:
    try:
        archive = Archive.read(path.read_bytes())
    except PayloadError as error:
        raise Problem("no_archive", f"{path}: {error}.", error.hint) from error
    [history] = since_begun(archive.events)
    if history[-1].kind not in CLOSING:
        check.add(
            history,
            tenant=archive.tenant,
            lineage=archive.lineage,
            secret=bytes.fromhex(archive.secret),
            floor=archive.durability,
        )
