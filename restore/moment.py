"""A tenant's state as it was: at a bookmark, at a time, or now, restored beside the live one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Generic, TypeVar

from backup.settings import StoreSettings
from backup.store import ObjectStore, S3Store
from restore import verify
from restore.errors import Damaged, RestoreFailed
from restore.fetch import Fetched, fetch
from restore.history import History, Reach, Span, read_history
from restore.plan import LtxFile
from restore.staging import Progress, Staging

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Now:
    """The newest state."""


@dataclass(frozen=True, slots=True)
class AtTime:
    """The state at unix time ``at``: the newest one in the bucket that is not younger."""

    at: float


@dataclass(frozen=True, slots=True)
class AtBookmark:
    """The oldest state in the bucket that holds event ``sequence`` of ``epoch``."""

    epoch: int
    sequence: int


@dataclass(frozen=True, slots=True)
class EndOf:
    """The last state of ``epoch`` that was the tenant's: what its successor left behind."""

    epoch: int


Moment = Now | AtTime | AtBookmark | EndOf


@dataclass(frozen=True, slots=True)
class Choice:
    """What a restore would take: the position, when that was, and the files that lead to it.

    ``missing`` tells of damage in the chain; ``txid`` is then the newest position before it.
    ``at`` is in unix seconds.
    """

    history: History
    epoch: int
    txid: int
    at: float
    files: tuple[LtxFile, ...]
    missing: str | None = None

    @property
    def bytes(self) -> int:
        """What is to be fetched."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True)
class Restored(Generic[T]):
    """What was restored, to where, and what the caller's check says of it."""

    choice: Choice
    fetched: Fetched
    checked: T


CommittedAt = Callable[[Path, int], float | None]
"""When an event was committed, by a restored log: unix seconds, None if it is not there. The log's
format is the engine's, so its owner says it."""


def choose(store: ObjectStore, tenant: str, moment: Now | AtTime | EndOf) -> Choice:
    """Decide what to restore, from lists and a few headers; nothing else is fetched.

    Raises:
        RestoreFailed: there is no such state any more, or none yet.
        Damaged: nothing at all leads to it.
        StoreError: the store could not be read.
    """
    history = read_history(store, tenant)
    if isinstance(moment, Now | EndOf):
        span = history.spans[0] if isinstance(moment, Now) else history.span(moment.epoch)
        reach = Reach(store, tenant, span)
        return _choice(history, span, reach, reach.positions[-1])
    span = history.span_at(moment.at)
    reach = Reach(store, tenant, span)
    before, _ = reach.split(moment.at)
    if not before:
        raise RestoreFailed(
            f"the oldest state of epoch {span.epoch} of {tenant} that is still in the bucket is of "
            f"{_iso(reach.time(reach.positions[0]))}; what was before it has been compacted"
        )
    return _choice(history, span, reach, before[-1])


def _choice(history: History, span: Span, reach: Reach, txid: int) -> Choice:
    # Damage beyond the chosen state is no concern of this restore.
    missing = reach.missing if txid == reach.positions[-1] else None
    files = reach.plan.up_to(txid).chain
    return Choice(history, span.epoch, txid, reach.time(txid), files, missing)


async def restore(
    settings: StoreSettings,
    tenant: str,
    moment: Moment,
    into: Path,
    check: Callable[[Path], T],
    committed_at: CommittedAt,
    *,
    in_spite_of_damage: bool = False,
    say: Callable[[str], None] = lambda _text: None,
    store: ObjectStore | None = None,
    staging: Path | None = None,
    progress: Progress = lambda _done, _all: None,
) -> Restored[T]:
    """Restore a tenant's state at ``moment`` to ``into/log.db`` and verify it.

    Reads only; the tenant may be live meanwhile. ``check`` reads the log's own invariants and
    raises where they do not hold; ``committed_at`` looks an event up in a log; ``say`` is told of
    each phase. Where the chain is damaged, the newest state before the damage is restored only if
    ``in_spite_of_damage``. In the folder ``staging`` the files are gathered that it needs, for
    whoever goes on if it is cut off; without one, Litestream reads them from the bucket itself.
    ``progress`` is told of bytes that are there, and of how many there will be.

    Raises:
        RestoreFailed: there is no such moment, or Litestream failed.
        Damaged: what is in the bucket is not whole.
        StoreError: the store could not be read.
    """
    store = store or S3Store(settings)
    fetching = _Fetching(settings, store, tenant, say, staging, in_spite_of_damage, progress)
    if isinstance(moment, AtBookmark):
        choice, fetched = await _bring_bookmark(fetching, moment, into, committed_at)
    else:
        choice = await asyncio.to_thread(choose, store, tenant, moment)
        if choice.missing is not None and not in_spite_of_damage:
            raise Damaged(
                f"{choice.missing}; the newest state that can be reached is transaction "
                f"{choice.txid} of epoch {choice.epoch}, of {_iso(choice.at)}"
            )
        # The newest state goes on while it is fetched: whatever is there then.
        newest = isinstance(moment, Now) and choice.missing is None
        fetched = await fetching.bring(choice, into, newest=newest)
    say("checking it")
    await asyncio.to_thread(verify.integrity, fetched.database)
    return Restored(choice, fetched, await asyncio.to_thread(check, fetched.database))


@dataclass(frozen=True, slots=True)
class _Fetching:
    settings: StoreSettings
    store: ObjectStore
    tenant: str
    say: Callable[[str], None]
    staging: Path | None = None
    in_spite_of_damage: bool = False
    progress: Progress = lambda _done, _all: None

    async def bring(self, choice: Choice, into: Path, *, newest: bool = False) -> Fetched:
        self.say(
            f"fetching {len(choice.files)} files, {choice.bytes:,} bytes, of epoch {choice.epoch}"
        )
        return await fetch(
            self.store,
            self.settings,
            self.tenant,
            choice.epoch,
            choice.txid if newest else 0,
            into / "log.db",
            None if newest else choice.txid,
            staging=self._staging(choice),
            in_spite_of_damage=self.in_spite_of_damage,
            progress=self.progress,
            say=self.say,
        )

    def _staging(self, choice: Choice) -> Staging | None:
        # By lineage: a name can have been given to another tenant since.
        name = f"{choice.history.owner.lineage}-{choice.epoch:08d}"
        return None if self.staging is None else Staging(self.staging / name)


async def _bring_bookmark(
    fetching: _Fetching, bookmark: AtBookmark, into: Path, committed_at: CommittedAt
) -> tuple[Choice, Fetched]:
    """A bookmark counts log events, of which the bucket's files know nothing. The newest log knows
    when an event was committed, and the files when they were taken: so that is fetched first."""
    tenant, store = fetching.tenant, fetching.store
    history = await asyncio.to_thread(read_history, store, tenant)
    span = history.span(bookmark.epoch)
    reach = await asyncio.to_thread(Reach, store, tenant, span)
    newest = await asyncio.to_thread(_choice, history, span, reach, reach.positions[-1])
    with TemporaryDirectory(prefix=f".{into.name}-", dir=into.parent) as aside:
        found = await fetching.bring(newest, Path(aside) / "newest")
        committed = await asyncio.to_thread(committed_at, found.database, bookmark.sequence)
        if committed is None:
            raise RestoreFailed(
                f"what the bucket holds of epoch {bookmark.epoch} of {tenant} does not reach event "
                f"{bookmark.sequence}"
            )
        _, later = await asyncio.to_thread(reach.split, committed)
        for number, txid in enumerate(later or reach.positions[-1:]):
            # A file can be taken between a commit's time and its end; then the next one has it.
            place = Path(aside) / str(number)
            choice = await asyncio.to_thread(_choice, history, span, reach, txid)
            fetched = await fetching.bring(choice, place)
            at = await asyncio.to_thread(committed_at, fetched.database, bookmark.sequence)
            if at is not None:
                if into.exists():
                    into.rmdir()
                place.rename(into)
                return choice, replace(fetched, database=into / "log.db")
    raise RestoreFailed(
        f"event {bookmark.sequence} of epoch {bookmark.epoch} of {tenant} was in the newest state "
        "and is in no other: try again"
    )


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
