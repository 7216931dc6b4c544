"""A node: supervisor, engine and sidecar of one tenant on one host, at one epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backup import ownership
from backup.barrier import ROUND_TIMEOUT
from backup.errors import Precondition, StoreError
from backup.ownership import NotAllowed, Origin, Owner, OwnerRecord, OwnerState, Parent
from backup.records import Versioned
from fleet.coordinator.picture import Start
from restore.errors import Damaged, RestoreFailed
from restore.fetch import RELIST_PAUSE, RELISTS
from restore.plan import LtxFile, Plan, plan
from tests.simulation.bucket import Writer
from tests.simulation.world import Process, Step

if TYPE_CHECKING:
    from tests.simulation.host import Host

BASE_TIMEOUT = 20.0
"""Seconds for a new epoch's base to appear in the bucket."""


@dataclass(slots=True)
class Order:
    """A start, as one life of a coordinator has sent it."""

    action: Start
    by: str
    given_up: bool = False
    """Whether that coordinator counts it as failed; it may arrive nevertheless."""


class Superseded(Exception):
    """Another claim came first."""


class Node:
    """What `node.supervisor` and `node.takeover` do, step by step."""

    def __init__(self, host: Host, order: Order, incarnation: str, deadline: float):
        self.host = host
        self.world = host.world
        self.bucket = host.bucket
        self.checks = host.checks
        self.rules = host.rules
        self.order = order
        self.tenant = order.action.tenant
        self.incarnation = incarnation
        self.owner = Owner(host=host.name, incarnation=incarnation)
        self.deadline = deadline
        self.state = "starting"
        self.over = False
        self.told_over = False
        """What its agent says of it."""
        self.serving = False
        self.epoch = 0
        self.claimed: Versioned[OwnerRecord] | None = None
        self.base: tuple[int, ...] = ()
        self.contents: dict[int, tuple[int, ...]] = {}
        self.uploaded = 0
        self.proven = 0
        self.acknowledged = 0
        self._uploading = False
        self._proving = False
        self._draining = False
        self._processes: list[Process] = []
        self._cut: Plan | None = None

    @property
    def txid(self) -> int:
        return len(self.contents)

    @property
    def writer(self) -> Writer:
        return Writer(self.tenant, self.epoch, self.incarnation)

    def alive(self) -> bool:
        """Whether its authority lasts, by its host's clock."""
        return self.host.now() < self.deadline

    # -- what the agent does -------------------------------------------------------------------

    def begin(self) -> None:
        self.checks.node_began(self)
        self._spawn(self._supervise())
        if self.rules.nodes_have_deadlines:
            self._spawn(self._watchdog())

    def _spawn(self, body: Step[None]) -> None:
        self._processes.append(self.world.spawn(self.host, body))

    def extend(self, deadline: float) -> None:
        """`node.authority.AuthorityFile.extend`: what has passed stays passed."""
        if not self.over and (self.alive() or not self.rules.deadline_from_sending):
            self.deadline = max(self.deadline, deadline)

    def drain(self) -> None:
        self._draining = True

    def kill(self, why: str) -> None:
        """SIGKILL to all of it; what it has sent is on its way nevertheless."""
        if not self.over:
            self.world.say(self.incarnation, f"ends: {why}")
            self._end("fenced")

    def _end(self, state: str) -> None:
        self.state = state
        self.over = self.told_over = True
        self.serving = False
        for process in self._processes:
            process.stop()

    def _watchdog(self) -> Step[None]:
        while self.alive():
            left = self.deadline - self.host.now()
            yield self.host.lasting(min(left, 1.0) + 0.001)
        self.kill("its deadline passed")

    # -- taking over -----------------------------------------------------------------------------

    def _supervise(self) -> Step[None]:
        self.state = "restoring"
        try:
            yield from self._claim()
        except (Superseded, StoreError) as error:
            self._end("superseded" if isinstance(error, Superseded) else "failed")
            return
        try:
            yield from self._bring_up()
        except Superseded:
            self._end("superseded")
            return
        except (Damaged, RestoreFailed, StoreError) as error:
            self.world.say(self.incarnation, f"gives up: {type(error).__name__}: {error}")
            yield from self._give_up(error)
            self._end("failed")
            return
        yield from self._serve()

    def _claim(self) -> Step[None]:
        now = yield from self.bucket.owner(self.host, self.tenant)
        if not self.rules.no_fixed_cut and now is not None:
            source = ownership.claim(now.record, self.tenant, self.owner, authority_ended=True)
            if source.parent is not None:
                self._cut = yield from self._plan(source.parent.epoch)
        etag = now.etag if now else None
        if etag != self.order.action.expected and self.rules.claim_decided_version:
            raise Superseded
        self.host.spring("claim")
        try:
            wanted = self._next(now.record if now else None)
            self.claimed = yield from self.bucket.swap_owner(
                self.host, wanted, etag, blindly=not self.rules.claim_swaps
            )
        except (NotAllowed, Precondition) as error:
            raise Superseded from error
        self.epoch = wanted.epoch

    def _next(self, now: OwnerRecord | None) -> OwnerRecord:
        action = self.order.action
        if action.origin is not None and now is not None and not self.rules.restore_after_release:
            return ownership.succeeding(now, self.owner, action.origin)
        wanted = ownership.claim(
            now,
            self.tenant,
            self.owner,
            authority_ended=action.authority_ended,
            origin=action.origin,
        )
        if now is None:
            return wanted
        if now.state is not OwnerState.RESTORING and not self.rules.restore_once:
            wanted = wanted.model_copy(update={"origin": wanted.origin or now.origin})
        if now.state is OwnerState.RESTORING and not self.rules.origin_is_copied:
            wanted = wanted.model_copy(update={"origin": action.origin})
        if not self.rules.fresh_epoch:
            wanted = wanted.model_copy(update={"epoch": now.epoch})
        never_active = now.state is OwnerState.RESTORING
        if never_active and not self.rules.only_active_parents:
            wanted = wanted.model_copy(update={"parent": Parent(epoch=now.epoch)})
        if never_active and now.parent is not None and not self.rules.keep_parent:
            back = Parent(epoch=now.parent.epoch - 1) if now.parent.epoch > 1 else None
            wanted = wanted.model_copy(update={"parent": back, "genesis": back is None})
        return wanted

    def _bring_up(self) -> Step[None]:
        assert self.claimed is not None
        record = self.claimed.record
        if record.origin is not None:
            yield from self._restore_past(record.origin)
        elif record.parent is not None:
            yield from self._restore(record.parent.epoch, record.floor_txid)
        self.contents = {1: self.base}
        self._spawn(self._stream())
        if self.rules.base_before_active:
            yield from self._await_base()
        self.host.spring("activate")
        yield from self._transition(ownership.activate(record, self.owner, self.epoch))
        self.host.spring("active")
        yield self.host.lasting(self.world.rng.uniform(0.02, 0.5))
        if not self.alive():
            self.kill("its deadline passed before its engine started")
            return
        self.state = "active"
        self.serving = True
        self.checks.engine_started(self)
        self._spawn(self._engine())

    def _plan(self, epoch: int, floor: int = 0) -> Step[Plan]:
        return self.bucket.list_epoch(self.host, self.tenant, epoch, floor)

    def _restore(self, epoch: int, floor: int) -> Step[None]:
        """`restore.fetch.fetch`: a settled plan, then the newest state that there is by then."""
        floor = max(floor, self.order.action.floor_txid)
        self.host.spring("restore")
        if self._cut is not None:
            found = self._cut
        else:
            found = yield from self._settled_plan(epoch, floor)
        yield self.host.lasting(self.world.rng.uniform(0.05, 3.0))
        if self.host.cut_off or self.world.rng.random() < self.bucket.failing_fetches:
            raise StoreError("the files could not be fetched")
        prefix = self.bucket.prefix(self.tenant, epoch)
        newest = plan(prefix.files).reachable
        if newest < found.reachable:
            raise RestoreFailed(f"restored to {newest}, but the list reaches {found.reachable}")
        # Only a twin stops short of what is there.
        short = self._cut is not None or found.missing(floor) is not None
        self.base = tuple(prefix.history(found.reachable if short else newest))

    def _restore_past(self, origin: Origin) -> Step[None]:
        """Exactly the state that was asked for (`takeover._bring_past`)."""
        self.host.spring("restore")
        missing: str | None = ""
        for attempt in range(RELISTS):
            if attempt:
                yield self.host.lasting(RELIST_PAUSE)
            found = (yield from self._plan(origin.epoch, origin.txid)).up_to(origin.txid)
            missing = found.missing(origin.txid)
            if missing is None:
                break
        else:
            raise Damaged(f"{origin.epoch}:{origin.txid}: {missing}")
        yield self.host.lasting(self.world.rng.uniform(0.05, 3.0))
        if self.host.cut_off or self.world.rng.random() < self.bucket.failing_fetches:
            raise StoreError("the files could not be fetched")
        prefix = self.bucket.prefix(self.tenant, origin.epoch)
        self.base = tuple(prefix.history(origin.txid))

    def _settled_plan(self, epoch: int, floor: int) -> Step[Plan]:
        missing: str | None = ""
        for attempt in range(RELISTS if self.rules.relist else 1):
            if attempt:
                yield self.host.lasting(RELIST_PAUSE)
            found = yield from self._plan(epoch, floor)
            missing = found.missing(floor if self.rules.floors else 0)
            if missing is None or (found.gapped and not self.rules.gap_check):
                return found
        raise Damaged(f"epoch {epoch}: {missing}")

    def _await_base(self) -> Step[None]:
        until = self.host.now() + BASE_TIMEOUT
        while True:
            found = yield from self._plan(self.epoch)
            if found.reachable > 0:
                return
            if self.host.now() >= until:
                raise RestoreFailed("the base did not appear")
            yield self.host.lasting(0.2)

    def _transition(self, wanted: OwnerRecord) -> Step[None]:
        assert self.claimed is not None
        try:
            self.claimed = yield from self.bucket.swap_owner(self.host, wanted, self.claimed.etag)
        except Precondition as error:
            found = self.bucket.owners.get(self.tenant)
            before = self.claimed.record
            if found is None or found.record.deletion == before.deletion:
                raise Superseded from error
            if (found.record.owner, found.record.epoch) != (self.owner, self.epoch):
                raise Superseded from error
            # Only a deletion was taken back that had not been carried out (`takeover.transition`).
            self.claimed = found
            settled = wanted.model_copy(update={"deletion": found.record.deletion})
            yield from self._transition(settled)

    def _give_up(self, error: Exception) -> Step[None]:
        assert self.claimed is not None
        record, reason = self.claimed.record, str(error)
        content = isinstance(error, RestoreFailed) or not self.rules.only_content_damages
        try:
            if isinstance(error, Damaged):
                wanted = ownership.damage(record, self.owner, self.epoch, reason)
            else:
                wanted = ownership.give_up(
                    record, self.owner, self.epoch, content_failed=content, reason=reason
                )
            yield from self._transition(wanted)
        except (NotAllowed, Superseded, StoreError):
            return

    # -- serving ---------------------------------------------------------------------------------

    def _serve(self) -> Step[None]:
        while not self._draining:
            yield self.host.lasting(0.5)
        self.told_over = not self.rules.over_means_dead
        try:
            yield from self._planned_stop()
        except (NotAllowed, Superseded, StoreError, RestoreFailed) as error:
            self.world.say(self.incarnation, f"was not released: {error!r}")
            if not (isinstance(error, StoreError) and not self.rules.unclear_is_over):
                self._end("failed")
            return
        self._end("released")

    def _planned_stop(self) -> Step[None]:
        assert self.claimed is not None
        yield from self._transition(ownership.drain(self.claimed.record, self.owner, self.epoch))
        if self.rules.unclear_is_over:
            self.serving = False
        yield from self._sync()
        reached = yield from self._plan(self.epoch)
        self.host.spring("release")
        if reached.gapped or reached.reachable < self.txid:
            raise RestoreFailed("the bucket does not show the final position")
        yield from self._transition(
            ownership.release(
                self.claimed.record, self.owner, self.epoch, reached.reachable, self._next_wake()
            )
        )

    def _next_wake(self) -> float | None:
        """What the engine says as its last words."""
        timers = self.checks.operators.timers
        return timers.get(self.tenant) if self.rules.sleepers_say_until_when else None

    def _engine(self) -> Step[None]:
        rng = self.world.rng
        while True:
            yield self.host.lasting(rng.uniform(0.3, 2.5))
            if not self.serving:
                continue
            self.checks.operators.fire(self.tenant)
            self.contents[self.txid + 1] = (next(self.world.number),)
            if rng.random() < 0.5:
                self._spawn(self._prove())
            elif self.alive() or not self._asks_before_effects:
                self.checks.effect(self)

    @property
    def _asks_before_effects(self) -> bool:
        return self.rules.effects_ask_the_deadline and self.rules.nodes_have_deadlines

    def _stream(self) -> Step[None]:
        """The sidecar: what is committed is uploaded within about a second."""
        while True:
            yield from self._upload()
            if self.world.rng.random() < 0.1 and not self._uploading:
                try:
                    yield from self.bucket.compact(self.host, self.writer)
                except StoreError:
                    continue
            yield self.host.lasting(self.world.rng.uniform(0.3, 1.7))

    def _upload(self) -> Step[None]:
        if self._uploading or self.uploaded >= self.txid:
            return
        self._uploading = True
        file = LtxFile(self.uploaded + 1, self.txid, 0, 1)
        try:
            yield from self.bucket.upload(self.host, self.writer, file, self.contents)
            self.uploaded = file.high
        except StoreError:
            yield self.host.lasting(0.2)
        finally:
            self._uploading = False

    def _sync(self) -> Step[None]:
        """Raises `StoreError` if it takes too long."""
        until = self.host.now() + ROUND_TIMEOUT
        while self.uploaded < self.txid:
            if self.host.now() >= until:
                raise StoreError("no sync in time")
            yield 0.02
            yield from self._upload()

    def _prove(self) -> Step[None]:
        """`backup.barrier.GroupBarrier`, as the supervisor asks for it."""
        if self._proving or not self.alive():
            return
        self._proving = True
        try:
            covered = self.txid
            holds = not self.rules.owner_read
            if self.rules.owner_read and not self.rules.owner_read_after_sync:
                holds = yield from self._still_mine()
            self.host.spring("sync")
            if self.rules.sync_before_ack:
                yield from self._sync()
            self.host.spring("owner read")
            if self.rules.owner_read and self.rules.owner_read_after_sync:
                holds = yield from self._still_mine()
            if not holds:
                self.kill("the tenant belongs to somebody else")
            elif self.alive():
                self.proven = covered
                self.checks.acknowledged(self, self.acknowledged + 1, covered)
                self.acknowledged = covered
        except StoreError:
            return
        finally:
            self._proving = False

    def _still_mine(self) -> Step[bool]:
        found = yield from self.bucket.owner(self.host, self.tenant)
        return found is not None and found.record.held_by(self.owner, self.epoch)
