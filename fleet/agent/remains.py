"""What nodes leave on a host's disk: their files may be the only copy of an asynchronous tail."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from backup.receipts import HostRemains
from fleet.runtimes.protocol import LABEL, Label
from node.order import Tail

GOING = ".going-"
"""What the names of folders begin with that are being removed."""


def find_tail(data: Path, tenant: str) -> Tail | None:
    """The newest database of the tenant that an earlier node has left on this host."""
    found = [
        Tail(epoch=kept.epoch, database=kept.folder / "data" / "log.db")
        for kept in quarantined(data)
        if kept.tenant == tenant and not kept.empty
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


@dataclass(frozen=True, slots=True)
class Kept:
    """A folder in the quarantine: whose it was, of which epoch (0 where that is not known), and
    when it was put away (unix seconds)."""

    folder: Path
    tenant: str
    epoch: int
    put_away_at: float

    @property
    def empty(self) -> bool:
        """Whether there is no log in it."""
        return not (self.folder / "data" / "log.db").exists()

    def size(self) -> int:
        """The bytes of its files."""
        return sum(file.lstat().st_size for file in self.folder.rglob("*") if file.is_file())


def quarantined(data: Path) -> list[Kept]:
    """All folders in the quarantine, by name."""
    found = []
    for folder in sorted((data / "quarantine").iterdir()):
        match = re.fullmatch(r"([a-z][a-z0-9-]*)-(\d{8})-[0-9a-f]{8}-(\d+)", folder.name)
        if match is not None:
            found.append(Kept(folder, match[1], int(match[2]), float(match[3])))
    return found


def take_away(kept: Kept) -> int:
    """Remove a folder of the quarantine; its bytes. It goes out of the way in one step: half of it
    is nobody's tail."""
    size = kept.size()
    going = kept.folder.with_name(f"{GOING}{kept.folder.name}")
    kept.folder.rename(going)
    shutil.rmtree(going, ignore_errors=True)
    return size


def finish_removals(data: Path) -> None:
    """Remove what an agent was killed over."""
    for folder in (data / "quarantine").glob(f"{GOING}*"):
        shutil.rmtree(folder, ignore_errors=True)


def remove(data: Path, tenant: str, epoch: int) -> HostRemains:
    """Remove what nodes of a tenant that is gone have left here, up to its last epoch."""
    found = HostRemains()
    for kept in quarantined(data):
        if kept.tenant == tenant and kept.epoch <= epoch:
            size = take_away(kept)
            found = HostRemains(folders=found.folders + 1, bytes=found.bytes + size)
    return found


def folders(data: Path) -> list[Path]:
    """The folders of nodes that lie on this host, whether anybody runs in them or not."""
    return list((data / "nodes").glob("*/*"))


def labels(data: Path) -> Iterator[Label]:
    """Who ran, or runs, in these folders."""
    for folder in folders(data):
        with contextlib.suppress(OSError, ValidationError):
            yield Label.model_validate_json((folder / LABEL).read_text())
