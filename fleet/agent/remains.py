"""What nodes leave on a host's disk: their files may be the only copy of an asynchronous tail."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from backup.receipts import HostRemains
from fleet.runtimes.protocol import LABEL, Label
from node.order import Tail


def find_tail(data: Path, tenant: str) -> Tail | None:
    """The newest database of the tenant that an earlier node has left on this host."""
    pattern = _kept(tenant)
    found = [
        Tail(epoch=int(match[1]), database=folder / "data" / "log.db")
        for folder in (data / "quarantine").iterdir()
        if (match := pattern.fullmatch(folder.name)) and (folder / "data" / "log.db").exists()
    ]
    return max(found, key=lambda tail: tail.epoch, default=None)


def keep(data: Path, folder: Path, epoch: int | None = None) -> None:
    """Move a node's folder to the quarantine; ``epoch`` is read from it unless it is given."""
    if epoch is None:
        try:
            epoch = int((folder / "epoch").read_text())
        except (OSError, ValueError):
            epoch = 0
    kept = f"{folder.parent.name}-{epoch:08d}-{folder.name}-{int(time.time())}"
    with contextlib.suppress(OSError):
        folder.rename(data / "quarantine" / kept)


def remove(data: Path, tenant: str, epoch: int) -> HostRemains:
    """Remove what nodes of a tenant that is gone have left here, up to its last epoch."""
    pattern, found = _kept(tenant), HostRemains()
    for folder in (data / "quarantine").iterdir():
        match = pattern.fullmatch(folder.name)
        if match is None or int(match[1]) > epoch:
            continue
        size = sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file())
        shutil.rmtree(folder, ignore_errors=True)
        found = HostRemains(folders=found.folders + 1, bytes=found.bytes + size)
    return found


def _kept(tenant: str) -> re.Pattern[str]:
    """The names of a tenant's folders in the quarantine, and of no other's: theirs go on behind it
    with something else than an epoch, a node and a time."""
    return re.compile(rf"{re.escape(tenant)}-(\d{{8}})-[0-9a-f]{{8}}-\d+")


def folders(data: Path) -> list[Path]:
    """The folders of nodes that lie on this host, whether anybody runs in them or not."""
    return list((data / "nodes").glob("*/*"))


def labels(data: Path) -> Iterator[Label]:
    """Who ran, or runs, in these folders."""
    for folder in folders(data):
        with contextlib.suppress(OSError, ValidationError):
            yield Label.model_validate_json((folder / LABEL).read_text())
