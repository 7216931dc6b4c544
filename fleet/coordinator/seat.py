"""This coordinator's seat: whether it is the active one, and the log that comes with that.

Each coordinator is a host of the small fleet of coordinators: it holds a lease of its own, watches
the others', and runs the node of the log when it is its turn. It is the active one from its claim
on, and not from when the log is restored: a fleet that has just lost a host must not wait for its
coordinator's log. Until that serves, what was done waits in memory to be recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from backup import keys, records
from backup.errors import Precondition, StoreError
from backup.lease import LeaseRecord, LeaseState, Watch, fenced
from backup.ownership import OwnerRecord
from backup.records import Versioned
from backup.settings import Credentials
from backup.store import ObjectStore, S3Store
from fleet.agent.agent import Agent
from fleet.agent.nodes import AlreadyHere, NoAuthority, StartRequest
from fleet.coordinator import own_app
from fleet.coordinator.own_app import STEPS_SOCKET
from fleet.coordinator.picture import Fence, SeenHost, SeenNode
from fleet.coordinator.seating import TENANT, Seats, Take, decide_seat, is_damaged
from fleet.settings import AccountSettings, AgentSettings, CoordinatorSettings
from fleet.views import CoordinatorView
from node.order import ENDED, NodeStatus

LOOK_EVERY = 0.5
"""Seconds between two looks at the other coordinators, for one that waits."""
LOOK_EVERY_ACTIVE = 5.0
"""Seconds between two looks for the active one, which only wants to know who else there is."""
TAKE_AGAIN = 2.0
"""Seconds before a take-over that failed is tried again."""


def steps_socket(settings: CoordinatorSettings) -> Path:
    """Where the log's engine finds this coordinator."""
    return settings.data / "steps.sock"


@dataclass(slots=True)
class _Watched:
    lease: Versioned[LeaseRecord]
    watch: Watch
    lease_at: float


class Seat:
    """One coordinator among those of its fleet."""

    def __init__(
        self,
        settings: CoordinatorSettings,
        address: str,
        credentials: Callable[[], Credentials],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            address: where this one's API answers; others find it in its lease.
            credentials: what the log's sidecar reaches its replica with.
            clock: seconds, monotonic; only ever compared with itself.
        """
        store = settings.store.of_coordinators
        self._steps = steps_socket(settings)
        self.name = settings.name
        self._agent = Agent(
            AgentSettings(
                store=store,
                token=settings.token,
                host=settings.name,
                data=settings.data,
                advertise=settings.advertise,
                accounts=AccountSettings(users="shared"),
            )
        )
        self._agent.answers_at(address)
        self._store: ObjectStore = S3Store(store)
        self._credentials = credentials
        self._clock = clock
        self._watched: dict[str, _Watched] = {}
        self._owner: Versioned[OwnerRecord] | None = None
        self._owner_at = -1.0
        self._tried_at = -TAKE_AGAIN
        self._damaged = False
        self._changed = asyncio.Event()

    # -- what it is -----------------------------------------------------------------------------

    def node(self) -> NodeStatus | None:
        """The node of the log here, None where there is none that lives."""
        node = self._agent.nodes.live(TENANT)
        return node.status if node is not None else None

    @property
    def epoch(self) -> int:
        """The epoch at which it is the active one; 0 while it is not.

        It does not outlive the lease, by the clock that suspends nothing: a coordinator that was
        frozen is not the active one when it wakes up.
        """
        node = self.node()
        if node is None or node.state in ENDED or not self._agent.has_authority:
            return self._without_log()
        return node.epoch

    def _without_log(self) -> int:
        """Of a log that is damaged nobody can have the node. Whoever holds a lease then acts; every
        action is a compare-and-swap, so that two at once do no harm."""
        damaged = self._damaged and self._agent.has_authority
        return self._owner.record.epoch if damaged and self._owner is not None else 0

    def active(self) -> CoordinatorView | None:
        """The one that owns the log, as far as is known; None while there is none."""
        return next((one for one in self.views() if one.active), None)

    def views(self) -> list[CoordinatorView]:
        """The coordinators whose lease lives, by name."""
        record = self._owner.record if self._owner is not None else None
        now = self._clock()
        found = []
        for name, one in sorted(self._watched.items()):
            lease = one.lease.record
            if lease.state is not LeaseState.LIVE:
                continue
            mine = name == self.name
            owns = record is not None and record.owner.authority == lease.incarnation
            found.append(
                CoordinatorView(
                    name=name,
                    address=lease.load.address,
                    active=bool(self.epoch) if mine else owns,
                    epoch=self.epoch if mine else record.epoch if owns and record else 0,
                    lease_age_seconds=0.0 if mine else one.watch.unchanged_for(now),
                    detail=self._detail() if mine else "",
                )
            )
        return found

    def _detail(self) -> str:
        if self._damaged:
            reason = self._owner.record.reason if self._owner is not None else ""
            return f"its log is damaged ({reason}); the history is in memory only"
        node = self.node()
        return "" if node is None or node.serving else f"its log is {node.state}"

    # -- its life -------------------------------------------------------------------------------

    async def run(self, changed: Callable[[], Awaitable[None]]) -> None:
        """Hold a lease and look after the seat, until cancelled or stopped.

        Args:
            changed: told whenever `epoch` may have changed.

        Raises:
            AnotherAgent, ClockSkewed, RuntimeFailed, StoreError: see `Agent.run`.
        """
        living = asyncio.create_task(self._agent.run())
        others = [
            asyncio.create_task(self._look_after()),
            asyncio.create_task(self._follow(changed)),
        ]
        try:
            await asyncio.wait([living, *others], return_when=asyncio.FIRST_COMPLETED)
            for task in (living, *others):
                if task.done():
                    task.result()
        finally:
            for task in (living, *others):
                task.cancel()
            await asyncio.gather(living, *others, return_exceptions=True)

    def stop(self) -> None:
        """Begin a planned stop: the log is released, and the lease given back; `run` returns."""
        self._agent.stop()

    async def _follow(self, changed: Callable[[], Awaitable[None]]) -> None:
        """Tell of every change of the node; and look again and again, for a lease lapses in
        silence."""
        version, epoch = -1, -1
        while True:
            await self._agent.nodes.changed(version, 0.1)
            version = self._agent.nodes.version
            if self.epoch != epoch:
                epoch = self.epoch
                self._changed.set()
                await changed()

    async def _look_after(self) -> None:
        while True:
            try:
                await self._look()
                await self._act()
            except StoreError as error:
                self._say(f"the store does not answer: {error}")
            every = LOOK_EVERY_ACTIVE if self.epoch else LOOK_EVERY
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), every)

    async def _look(self) -> None:
        """Read the leases and the record. Raises `StoreError`."""
        names = await asyncio.to_thread(lambda: list(self._store.prefixes(keys.HOSTS)))
        for name in names:
            asked = self._clock()
            lease = await asyncio.to_thread(
                records.read, self._store, keys.lease(name), LeaseRecord
            )
            if lease is None:
                continue
            known = self._watched.get(name)
            watch = known.watch if known is not None else Watch(lease.etag, self._clock())
            watch.seen(lease.etag, self._clock())
            self._watched[name] = _Watched(lease, watch, asked)
        self._owner = await asyncio.to_thread(
            records.read, self._store, keys.owner(TENANT), OwnerRecord
        )
        self._owner_at = self._clock()

    def _seats(self) -> Seats:
        return Seats(self.name, self._hosts(), self._owner, self._owner_at)

    def _hosts(self) -> dict[str, SeenHost]:
        now = self._clock()
        nodes = tuple(
            SeenNode(node.tenant, node.incarnation, node.state, node.state in ENDED)
            for node in self._agent.nodes.statuses()
        )
        found = {}
        for name, one in self._watched.items():
            mine = name == self.name and one.lease.record.incarnation == self._agent.incarnation
            found[name] = SeenHost(
                lease=one.lease,
                unchanged_for=0.0 if mine else one.watch.unchanged_for(now),
                nodes=nodes if mine and self._agent.has_authority else None,
                nodes_at=now,
                lease_at=one.lease_at,
            )
        return found

    async def _act(self) -> None:
        seats = self._seats()
        if is_damaged(seats) != self._damaged:
            self._damaged = is_damaged(seats)
            if self._damaged:
                self._say(f"{self.name}: {self._detail()}")
        action = decide_seat(seats)
        if isinstance(action, Fence):
            with contextlib.suppress(Precondition):
                await asyncio.to_thread(
                    records.swap,
                    self._store,
                    keys.lease(action.host),
                    fenced(action.lease.record),
                    action.lease.etag,
                )
                self._say(f"{self.name} has fenced {action.host}, which did not renew its lease")
                self._changed.set()
        elif isinstance(action, Take) and self._clock() - self._tried_at >= TAKE_AGAIN:
            self._tried_at = self._clock()
            await self._take(action)

    async def _take(self, action: Take) -> None:
        request = StartRequest(
            app=own_app.__name__,
            durability="before_effects",
            env={STEPS_SOCKET: str(self._steps)},
            expected=action.expected,
            authority_ended=True,
            floor_txid=action.floor_txid,
            sidecar=await asyncio.to_thread(self._credentials),
        )
        with contextlib.suppress(NoAuthority, AlreadyHere):
            await self._agent.start(TENANT, request)
            self._say(f"{self.name} takes over as coordinator ({action.cause.replace('_', ' ')})")

    @staticmethod
    def _say(text: str) -> None:
        print(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}", flush=True)
