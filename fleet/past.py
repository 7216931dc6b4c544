"""A tenant's past as one file, for people: what it would take, and what it became."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import BaseModel

from backup import copies
from backup.copies import BadCopy
from backup.sealing import BadKeys, KeySource
from backup.settings import StoreSettings
from backup.store import S3Store
from fleet.problem import Problem
from fleet.reached import find_reached
from fleet.views import CopyView
from node.engine.errors import LogRefused
from node.engine.inspection import LogSummary, committed_at, inspect_log
from restore.errors import Damaged
from restore.moment import AtBookmark, Choice, Moment, choose, restore


class PlannedRestore(BaseModel):
    """What a restore would take. `at` is when that state was taken, in unix seconds; `missing`
    tells of damage after it, None where the chain is whole; only then `reaches` is the newest
    bookmark before the damage."""

    tenant: str
    lineage: str
    epoch: int
    txid: int
    at: float
    files: int
    bytes: int
    missing: str | None
    reaches: str | None = None


class FinishedRestore(PlannedRestore):
    """What was restored. `bookmark` is its last log event, committed at `committed_at` (unix
    seconds); `seconds` is what it took."""

    database: str
    bookmark: str
    committed_at: float | None
    executions: dict[str, int]
    seconds: float


def plan_past(settings: StoreSettings, tenant: str, moment: Moment) -> PlannedRestore:
    """Look what a restore would take; only lists and headers are read, unless there is damage: then
    what is before it is restored somewhere harmless, to say which bookmark that is.

    Raises Problem for a bookmark, and what `restore.moment.choose` does.
    """
    if isinstance(moment, AtBookmark):
        raise Problem(
            "no_plan",
            "Where a bookmark is can only be told from the log itself, so a plan needs a restore.",
            "Run it without --dry-run, or ask for a time.",
        )
    plan = PlannedRestore(**_chosen(choose(S3Store(settings), tenant, moment)))
    if plan.missing is not None:
        reached = find_reached(settings, tenant, moment)
        plan.missing += f"; {reached.words}"
        plan.reaches = reached.bookmark
    return plan


def bring_past(
    settings: StoreSettings,
    tenant: str,
    moment: Moment,
    to: Path,
    *,
    in_spite_of_damage: bool,
    say: Callable[[str], None],
    progress: Callable[[int, int], None] = lambda done, of: None,
    probe: Callable[[Path], None] = lambda database: None,
) -> FinishedRestore:
    """Restore a tenant's past to the file `to`, verified; the tenant itself is not touched.

    What is cut off leaves `.<name>.partial` beside it, and the next one goes on from there. `probe`
    looks at the restored file before it is put in its place, and raises where it must not be.
    `progress` is told of bytes that were fetched.

    Raises Problem where something is at `to`, and what `restore.moment.restore` does.
    """
    refuse_place(to)
    began = time.monotonic()
    partial = to.with_name(f".{to.name}.partial")
    # Beside its place, so that it gets there in one step: a file at `to` is a whole one.
    with _alone(partial, say), TemporaryDirectory(prefix="restored-", dir=partial) as aside:
        done = asyncio.run(
            restore(
                settings,
                tenant,
                moment,
                Path(aside) / "restored",
                _inspect,
                committed_at,
                in_spite_of_damage=in_spite_of_damage,
                say=say,
                staging=partial,
                progress=progress,
            )
        )
        probe(done.fetched.database)
        _install(done.fetched.database, to)
    shutil.rmtree(partial, ignore_errors=True)
    log = done.checked
    return FinishedRestore(
        **{**_chosen(done.choice), "txid": done.fetched.txid},
        database=str(to),
        bookmark=f"{done.choice.epoch}:{log.sequence}",
        committed_at=log.last_commit_at,
        executions=log.executions,
        seconds=time.monotonic() - began,
    )


@contextmanager
def _alone(partial: Path, say: Callable[[str], None]) -> Iterator[None]:
    """The folder of a restore, with nobody else in it, and without what was restored and not put
    in its place."""
    if partial.exists():
        say(f"going on with what is in {partial}")
    partial.mkdir(mode=0o700, exist_ok=True)
    handle = os.open(partial / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Problem(
                "restoring",
                f"Somebody is restoring into {partial} now.",
                "Wait until that is done, or name another file.",
            ) from None
        for left in partial.glob("restored-*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        os.close(handle)


def _install(database: Path, to: Path) -> None:
    """Put a whole file in its place, in one step, and so that it stays there."""
    for path in (database, database.parent):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    try:
        # Never over a file that has come there meanwhile.
        os.link(database, to)
    except FileExistsError:
        raise Problem(
            "exists",
            f"{to} has come there meanwhile.",
            "Move it away and give the same command again; nothing is fetched a second time.",
        ) from None
    except OSError:
        # A file system without hard links.
        database.rename(to)
    handle = os.open(to.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fetch_copy(
    settings: StoreSettings, tenant: str, name: str, to: Path, source: KeySource | None = None
) -> CopyView:
    """Bring an independent copy (by its name, or the `newest`) to the file `to`, verified. `source`
    gives the keyring for one that is sealed.

    Raises Problem where there is no such copy or something is at `to`, Damaged where it is not what
    it was when it was made.
    """
    refuse_place(to)
    store = S3Store(settings)
    known = {copy.name: copy for copy in copies.read(store, tenant)}
    # They come oldest first.
    chosen = next(reversed(known), None) if name == "newest" else name
    copy = known.get(chosen or "")
    if copy is None:
        have = ", ".join(known) or "none"
        raise Problem("no_copy", f"{tenant} has no copy {name!r}.", f"There are: {have}.")
    with TemporaryDirectory(prefix=f".{to.name}-", dir=to.parent) as aside:
        fresh = Path(aside) / "log.db"
        try:
            key = None
            if copy.key is not None and source is not None:
                key = source.read().for_tenant(tenant, copy.key)
            copies.fetch(store, copy, fresh, key)
        except BadKeys as error:
            hint = "Give the keyring that it was sealed with, by --keys or LITEFLEET_COPY_KEYS."
            raise Problem("no_key", f"Copy {copy.name} is sealed, and {error}.", hint) from error
        except BadCopy as error:
            if copy.key is not None and key is None:
                hint = "Give it by --keys FILE, or in LITEFLEET_COPY_KEYS."
                raise Problem("no_key", f"{error}.", hint) from error
            raise Damaged(str(error)) from error
        _inspect(fresh)
        fresh.rename(to)
    return CopyView.model_validate(
        {**copy.model_dump(), "name": copy.name, "bookmark": copy.bookmark}
    )


def refuse_place(to: Path) -> None:
    """Raises Problem where a file is at `to` already, or cannot be."""
    if to.exists():
        raise Problem("exists", f"{to} exists.", "Name a file that does not; nothing was changed.")
    if not to.parent.is_dir():
        raise Problem("no_folder", f"There is no folder {to.parent}.", "Make it first.")


def _inspect(database: Path) -> LogSummary:
    try:
        return inspect_log(database)
    except LogRefused as error:
        raise Damaged(f"what was restored is not whole: {error}") from error


def _chosen(choice: Choice) -> dict[str, Any]:
    owner = choice.history.owner
    return {
        "tenant": owner.tenant,
        "lineage": owner.lineage,
        "epoch": choice.epoch,
        "txid": choice.txid,
        "at": choice.at,
        "files": len(choice.files),
        "bytes": choice.bytes,
        "missing": choice.missing,
    }
