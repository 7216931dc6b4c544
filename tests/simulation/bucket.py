"""The store as the fleet may meet it: compare-and-swap over a network that loses and delays.

A request is three steps (sent, landed, answered), and each can fail alone. What is in flight lands
whatever has become of its sender.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from backup.errors import Ambiguous, Precondition, StoreError, Unreachable
from backup.lease import LeaseRecord
from backup.ownership import OwnerRecord
from backup.records import WRITE_PAUSE, Record, Versioned
from backup.store import READ_ATTEMPTS
from restore.plan import LEVELS, LtxFile, Plan, plan
from tests.simulation.world import Domain, Step, World

R = TypeVar("R", bound=Record)
T = TypeVar("T")

LATE = 25.0
"""Seconds after its sending at which a write may still land."""
GIVES_UP = (0.5, 4.0)
"""Seconds after which a client takes a request for unanswered."""
LIES = 2
"""How often in a row a list may lie about one prefix."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes to a prefix: one incarnation of a node, at its epoch."""

    tenant: str
    epoch: int
    incarnation: str


class Prefix:
    """One epoch's replica: its files, and what each transaction holds."""

    def __init__(self) -> None:
        self.files: set[LtxFile] = set()
        self.contents: dict[int, tuple[int, ...]] = {}
        self.lost = False
        """Whether the store itself has lost a file of it, for good."""
        self.lies = 0

    def history(self, reachable: int) -> list[int]:
        """All commits up to a transaction."""
        return [commit for txid in range(1, reachable + 1) for commit in self.contents[txid]]


class Bucket:
    """Records and replicas."""

    def __init__(self, world: World):
        self.world = world
        self.owners: dict[str, Versioned[OwnerRecord]] = {}
        self.leases: dict[str, Versioned[LeaseRecord]] = {}
        self.prefixes: dict[tuple[str, int], Prefix] = {}
        self.faulty = 0.0
        """Share of the requests that meet a fault of their own."""
        self.failing_fetches = 0.0
        """Share of the restores that the store breaks off, while its records answer."""
        self.lying_lists = False
        self.on_owner: Callable[[OwnerRecord | None, OwnerRecord], None] = lambda old, new: None
        self.on_file: Callable[[Writer], None] = lambda writer: None

    def prefix(self, tenant: str, epoch: int) -> Prefix:
        return self.prefixes.setdefault((tenant, epoch), Prefix())

    # -- requests -------------------------------------------------------------------------------

    def _hop(self) -> float:
        rng = self.world.rng
        return rng.uniform(0.005, 0.06) if rng.random() < 0.95 else rng.uniform(0.06, 1.5)

    def _read(self, who: Domain, look: Callable[[], T]) -> Step[T]:
        """A read, tried as often as the real store does it. Raises `StoreError`."""
        rng = self.world.rng
        for _ in range(READ_ATTEMPTS):
            if who.cut_off and rng.random() < 0.5:
                yield 0.05
                continue
            if who.cut_off or rng.random() < self.faulty:
                yield rng.uniform(*GIVES_UP)
                continue
            yield self._hop()
            seen = look()
            yield self._hop()
            return seen
        raise Unreachable("no answer to a read")

    def _write(self, who: Domain, land: Callable[[], str | None]) -> Step[str]:
        """A write, tried once; ``land`` gives its ETag, None where the condition does not hold.

        Raises `Precondition`, `Ambiguous` or `Unreachable`.
        """
        rng = self.world.rng
        landed: list[str | None] = []
        if who.cut_off and rng.random() < 0.5:
            yield 0.05
            raise Unreachable("no connection")
        if who.cut_off or rng.random() < self.faulty:
            fate = rng.choice(("lost", "unanswered", "late"))
            if fate != "lost":
                after = rng.uniform(0.0, LATE) if fate == "late" else self._hop()
                self.world.later(after, lambda: landed.append(land()))
            yield rng.uniform(*GIVES_UP)
            raise Ambiguous(f"no answer to a write ({fate})")
        there = self._hop()
        self.world.later(there, lambda: landed.append(land()))
        yield there + self._hop()
        if landed[0] is None:
            raise Precondition("412")
        return landed[0]

    def _swap(
        self,
        who: Domain,
        record: R,
        land: Callable[[], str | None],
        look: Callable[[], Versioned[R] | None],
        may_send: Callable[[], bool] = lambda: True,
        patience: float = 10.0,
    ) -> Step[Versioned[R]]:
        """`backup.records.swap`, step by step."""
        until = who.now() + patience
        uncertain = False
        while True:
            if not may_send():
                raise Ambiguous("no longer allowed")
            try:
                return Versioned(record, (yield from self._write(who, land)))
            except Precondition:
                found = (yield from self._read(who, look)) if uncertain else None
                if found is None or found.record.nonce != record.nonce:
                    raise
                return found
            except Ambiguous:
                uncertain = True
                try:
                    found = yield from self._read(who, look)
                except StoreError:
                    found = None
                if found is not None and found.record.nonce == record.nonce:
                    return found
            except Unreachable:
                pass
            if who.now() >= until:
                raise Ambiguous("unresolved")
            yield who.lasting(WRITE_PAUSE)

    def _etag(self) -> str:
        return f"e{next(self.world.number)}"

    # -- records --------------------------------------------------------------------------------

    def owner(self, who: Domain, tenant: str) -> Step[Versioned[OwnerRecord] | None]:
        return self._read(who, lambda: self.owners.get(tenant))

    def lease(self, who: Domain, host: str) -> Step[Versioned[LeaseRecord] | None]:
        return self._read(who, lambda: self.leases.get(host))

    def swap_owner(
        self, who: Domain, record: OwnerRecord, over: str | None, *, blindly: bool = False
    ) -> Step[Versioned[OwnerRecord]]:
        def land() -> str | None:
            now = self.owners.get(record.tenant)
            if not blindly and (now.etag if now else None) != over:
                return None
            self.owners[record.tenant] = Versioned(record, self._etag())
            parent = record.parent.epoch if record.parent else "-"
            self.world.say(
                record.tenant,
                f"epoch {record.epoch} {record.state} by {record.incarnation or 'nobody'} "
                f"(parent {parent}) {record.reason}",
            )
            self.on_owner(now.record if now else None, record)
            return self.owners[record.tenant].etag

        return self._swap(who, record, land, lambda: self.owners.get(record.tenant))

    def swap_lease(
        self,
        who: Domain,
        record: LeaseRecord,
        over: str | None,
        *,
        may_send: Callable[[], bool] = lambda: True,
        patience: float = 10.0,
        blindly: bool = False,
    ) -> Step[Versioned[LeaseRecord]]:
        def land() -> str | None:
            now = self.leases.get(record.host)
            if not blindly and (now.etag if now else None) != over:
                return None
            told = (now.record.incarnation, now.record.state) if now else None
            if told != (record.incarnation, record.state):
                self.world.say(record.host, f"lease {record.state} of {record.incarnation}")
            self.leases[record.host] = Versioned(record, self._etag())
            return self.leases[record.host].etag

        return self._swap(
            who, record, land, lambda: self.leases.get(record.host), may_send, patience
        )

    # -- replicas -------------------------------------------------------------------------------

    def upload(
        self, who: Domain, writer: Writer, file: LtxFile, contents: dict[int, tuple[int, ...]]
    ) -> Step[None]:
        """Put one file; what it holds is ``contents`` at its transactions."""
        held = {txid: contents[txid] for txid in range(file.low, file.high + 1)}

        def land() -> str | None:
            self.on_file(writer)
            prefix = self.prefix(writer.tenant, writer.epoch)
            prefix.files.add(file)
            prefix.contents.update(held)
            return "file"

        yield from self._write(who, land)

    def compact(self, who: Domain, writer: Writer) -> Step[None]:
        """Merge level 0 into one file of level 1, then remove what it was made of."""
        prefix = self.prefix(writer.tenant, writer.epoch)
        low = sorted(file for file in prefix.files if file.level == 0)
        whole = plan(prefix.files)
        if len(low) < 3 or whole.gapped:
            return
        file = LtxFile(1, whole.reachable, 1, 1)
        yield from self.upload(who, writer, file, prefix.contents)
        for each in low:
            yield 0.01
            prefix.files.discard(each)

    def list_epoch(self, who: Domain, tenant: str, epoch: int, floor: int) -> Step[Plan]:
        """`restore.plan.list_epoch`, level by level; while lists lie, some leave files out.

        A lie can always be seen through: it leaves a gap, or ends below the floor. The protocol
        promises nothing about others, and neither does any store that it runs on tell them.
        """
        prefix = self.prefix(tenant, epoch)
        found: list[LtxFile] = []
        for level in LEVELS:
            if level < 2:
                found += yield from self._read(who, functools.partial(_level, prefix, level))
        if self.lying_lists and prefix.lies < LIES:
            lie = self._shortened(sorted(found), floor)
            if plan(lie).missing(floor):
                prefix.lies += 1
                return plan(lie)
        prefix.lies = 0
        return plan(found)

    def _shortened(self, files: list[LtxFile], floor: int) -> list[LtxFile]:
        rng = self.world.rng
        if floor > 1 and rng.random() < 0.5:
            cut = rng.randint(1, floor - 1)
            return [file for file in files if file.high <= cut]
        gone = rng.randint(1, max(1, plan(files).reachable))
        return [file for file in files if not file.low <= gone <= file.high]


def _level(prefix: Prefix, level: int) -> list[LtxFile]:
    return [file for file in prefix.files if file.level == level]
