"""Which releases of Litestream a tenant's data may be trusted to.

The facts are Litestream's own: its issue tracker, by number. A release that is not the pinned one
has not been tried against the rules of docs/protocol.md, so an older one is refused for what is
known of it, and a newer one is only warned of.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

Version = tuple[int, int, int]

#: The release whose behaviour docs/protocol.md was proven against, by the tests.
PROVEN: Final[Version] = (0, 5, 17)


@dataclass(frozen=True, slots=True)
class Defect:
    """What is wrong with the releases from `first` on that are older than `fixed`."""

    issue: str
    first: Version
    fixed: Version
    what: str


DEFECTS: Final = (
    Defect("#1432", (0, 0, 0), (0, 5, 17), "its SQLite can damage a database as the WAL restarts"),
    Defect("#1164, #1309", (0, 5, 0), (0, 5, 15), "restores can be corrupt"),
    Defect("#1310", (0, 5, 12), (0, 5, 15), "a full disk stops replication for good"),
    Defect("#1198, #1199", (0, 5, 0), (0, 5, 15), "the whole database is uploaded again and again"),
    Defect("#1165, #1175, #1197", (0, 5, 9), (0, 5, 10), "every few minutes all is uploaded again"),
    Defect("#1083", (0, 5, 6), (0, 5, 9), "replication stops without a word"),
    Defect("#927, #994, #997", (0, 5, 0), (0, 5, 8), "its files fill the disk"),
    Defect("#784", (0, 5, 0), (0, 5, 2), "its files fill the disk"),
    Defect("", (0, 0, 0), (0, 5, 0), "its replicas have another format, which is not read here"),
)


class Trust(StrEnum):
    """What to do with a release."""

    PROVEN = "proven"
    WARN = "warn"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A release's `trust`, and why, in words for an operator."""

    trust: Trust
    reasons: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return "; ".join(self.reasons)


def judge(version: str) -> Judgement:
    """What is known of the release that `litestream version` names, such as ``0.5.17``."""
    match = re.fullmatch(r"v?(\d+)\.(\d+)\.(\d+)(.*)", version.strip())
    if match is None:
        return Judgement(Trust.REFUSE, (f"{version!r} is no release's version",))
    release = (int(match[1]), int(match[2]), int(match[3]))
    known = tuple(
        f"{defect.what} (Litestream {defect.issue})" if defect.issue else defect.what
        for defect in DEFECTS
        if defect.first <= release < defect.fixed
    )
    if known:
        return Judgement(Trust.REFUSE, known)
    if release == PROVEN and not match[4]:
        return Judgement(Trust.PROVEN)
    proven = ".".join(map(str, PROVEN))
    return Judgement(Trust.WARN, (f"only {proven} has been tried with this version of Litefleet",))
