"""The invariants, checked at the very step that could break them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from backup.hosts import HostRecord
from backup.lease import TTL, WATCH, LeaseState
from backup.ownership import OwnerRecord, OwnerState, TenantRecord, restore_wanted
from fleet.coordinator.decide import BRAKE_HOSTS, BRAKE_SHARE
from fleet.coordinator.picture import Action, Drain, Fence, Picture, Start
from fleet.coordinator.placement import STARTS_PER_HOST
from restore.plan import plan
from tests.simulation.bucket import Bucket, Writer
from tests.simulation.world import Violation, World

if TYPE_CHECKING:
    from tests.simulation.node import Node
    from tests.simulation.operators import Operators

STARTING = ("starting", "restoring")


class Checks:
    """What must hold. It sees everything at once, as nobody in the fleet does."""

    def __init__(self, world: World, bucket: Bucket):
        self.world = world
        self.bucket = bucket
        self.seen: Counter[str] = Counter()
        """How often each thing of interest happened: a check that never ran is worth nothing."""
        self.operators: Operators
        self._nodes: dict[str, Node] = {}
        self._writers: dict[tuple[str, int], str] = {}
        self._active: dict[str, list[int]] = {}
        self._base: dict[str, frozenset[int]] = {}
        self._acknowledged: dict[str, set[int]] = {}
        self._started: dict[str, int] = {}
        self._written_off: dict[str, int] = {}
        self._restored: dict[str, int] = {}
        self.catalog: dict[str, TenantRecord] = {}
        """What is wanted of each tenant, as the bucket has it."""
        bucket.on_owner = self._owner_changed
        bucket.on_file = self._file_landed

    # -- 1: nothing acknowledged is lost ---------------------------------------------------------

    def acknowledged(self, node: Node, first: int, last: int) -> None:
        """A node answers that its transactions ``first`` to ``last`` are durable."""
        if node.epoch <= self._written_off.get(node.tenant, 0):
            return  # an answer that was proven before the tenant was removed
        commits = {commit for txid in range(first, last + 1) for commit in node.contents[txid]}
        self._acknowledged.setdefault(node.tenant, set()).update(commits)
        self.seen["acknowledged"] += 1
        newest = self._active[node.tenant][-1]
        if newest != node.epoch and not commits <= self._base[node.tenant]:
            raise Violation(
                "durable",
                f"{node.incarnation} acknowledged {node.epoch}:{last} after epoch {newest} had "
                "become active without it",
            )

    def _became_active(self, record: OwnerRecord) -> None:
        node = self._nodes.get(record.incarnation)
        base = frozenset(node.base) if node is not None else frozenset()
        if record.restored > self._restored.get(record.tenant, 0):
            self._restored[record.tenant] = record.restored
            if not record.restore_failure:
                self._check_restored(record, base)
        missing = self._acknowledged.get(record.tenant, set()) - base
        self._active.setdefault(record.tenant, []).append(record.epoch)
        self._base[record.tenant] = base
        if missing:
            raise Violation(
                "durable",
                f"epoch {record.epoch} of {record.tenant} became active without {len(missing)} "
                f"acknowledged commits ({', '.join(map(str, sorted(missing)[:5]))})",
            )

    def history_of(self, tenant: str) -> list[int]:
        """The epochs of a tenant that were active, oldest first."""
        return list(self._active.get(tenant, []))

    def _check_restored(self, record: OwnerRecord, base: frozenset[int]) -> None:
        """A restore was taken up: the epoch begins with exactly that state, and from here on that
        is what was acknowledged."""
        self.seen["restored in place"] += 1
        origin = record.origin
        if origin is None:
            raise Violation("restored", f"{record.tenant} went on, and was to go back")
        wanted = self.bucket.prefix(record.tenant, origin.epoch).history(origin.txid)
        if base != frozenset(wanted):
            raise Violation(
                "restored", f"epoch {record.epoch} of {record.tenant} is not {origin.bookmark}"
            )
        self._acknowledged[record.tenant] = set(base)

    def _check_left(self, old: OwnerRecord, new: OwnerRecord) -> None:
        """A past state is claimed: all of the newest one is there to go back to."""
        taken_up = new.origin is not None and new.restored > old.restored
        node = self._nodes.get(old.incarnation)
        if not taken_up or node is None or old.state is OwnerState.DAMAGED:
            return
        prefix = self.bucket.prefix(old.tenant, old.epoch)
        left = {commit for held in node.contents.values() for commit in held}
        lost = left - set(prefix.history(plan(prefix.files).reachable))
        if lost and not prefix.lost:
            raise Violation("left", f"{old.tenant} goes back, and {len(lost)} are nowhere else")

    def bucket_holds_all(self) -> None:
        """At the end: the newest active epoch's prefix leads to all that was acknowledged."""
        for tenant, acknowledged in self._acknowledged.items():
            if not acknowledged:
                continue
            prefix = self.bucket.prefix(tenant, self._active[tenant][-1])
            missing = acknowledged - set(prefix.history(plan(prefix.files).reachable))
            if missing and not prefix.lost:
                raise Violation("durable", f"{tenant}: {len(missing)} are not in the bucket")

    # -- 2: epochs -------------------------------------------------------------------------------

    def _file_landed(self, writer: Writer) -> None:
        place = (writer.tenant, writer.epoch)
        first = self._writers.setdefault(place, writer.incarnation)
        if first != writer.incarnation:
            raise Violation(
                "epochs",
                f"epoch {writer.epoch} of {writer.tenant} was written by {first} and by "
                f"{writer.incarnation}",
            )

    def _owner_changed(self, old: OwnerRecord | None, new: OwnerRecord) -> None:
        active = self._active.get(new.tenant, [])
        before = old.epoch if old is not None else 0
        claimed = old is None or old.owner != new.owner
        ended = not new.host
        if new.epoch < before:
            raise Violation("epochs", f"{new.tenant} went back from epoch {before} to {new.epoch}")
        if new.state is OwnerState.RESTORING and claimed and not ended:
            parent = new.parent.epoch if new.parent is not None else 0
            if parent != (active[-1] if active else 0):
                raise Violation(
                    "epochs",
                    f"epoch {new.epoch} of {new.tenant} has parent {parent}; active were {active}",
                )
            if old is not None:
                self._check_left(old, new)
            self._check_needless(old)
            self.seen["claimed"] += 1
        went_on = old is not None and (old.epoch, old.state) == (new.epoch, new.state)
        if new.state is OwnerState.ACTIVE and not went_on:
            self._became_active(new)
        if new.state is OwnerState.DELETED:
            self._check_deleted(old, new)
        if old is not None and old.tomb is not None and old.tomb.erased:
            wanted = self.catalog[new.tenant]
            if wanted.gone or wanted.follows != old.deletion:
                raise Violation("resurrected", f"{new.tenant} is gone, and begins again")
        if new.state is OwnerState.RELEASED:
            self.seen["released"] += 1
        if new.state is OwnerState.DAMAGED:
            self._check_damage(new)

    # -- 3: effects ------------------------------------------------------------------------------

    def engine_started(self, node: Node) -> None:
        self._started[node.tenant] = max(self._started.get(node.tenant, 0), node.epoch)
        self.world.say(node.incarnation, f"serves {node.tenant} at epoch {node.epoch}")

    def effect(self, node: Node) -> None:
        """A node starts an effect now. Clocks outside of the bound promise nothing."""
        self.seen["effect"] += 1
        newest = self._started[node.tenant]
        if newest > node.epoch and node.host.trusted:
            raise Violation(
                "effects",
                f"{node.incarnation} has an effect at epoch {node.epoch} of {node.tenant}, whose "
                f"engine of epoch {newest} has started",
            )

    # -- 4: all settles --------------------------------------------------------------------------

    def unsettled(
        self,
        tenants: Iterable[str],
        catalog: Mapping[str, TenantRecord],
        hosts: Mapping[str, HostRecord],
    ) -> list[str]:
        """The tenants that are neither served under the newest record, where and as is wanted, nor
        rightly asleep or damaged."""
        return [
            tenant for tenant in tenants if not self._settled(tenant, catalog.get(tenant), hosts)
        ]

    def _settled(
        self, tenant: str, wanted: TenantRecord | None, hosts: Mapping[str, HostRecord]
    ) -> bool:
        found = self.bucket.owners.get(tenant)
        asleep = wanted is not None and wanted.asleep
        if asleep and (found is None or found.record.state is OwnerState.RELEASED):
            return not self.operators.overslept(tenant)
        if found is None:
            return False
        if wanted is not None and wanted.deletion is not None:
            tomb = found.record.tomb
            return wanted.gone and tomb is not None and tomb.erased
        if wanted is not None and restore_wanted(wanted, found.record) is not None:
            return False
        if found.record.state is OwnerState.DAMAGED:
            return True
        node = self._nodes.get(found.record.incarnation)
        left = hosts.get(found.record.host)
        misplaced = asleep or (left is not None and left.draining and self._elsewhere(hosts, node))
        if misplaced:
            return False
        return (
            found.record.state is OwnerState.ACTIVE
            and node is not None
            and node.serving
            and node.alive()
            and not node.host.dead
        )

    def _elsewhere(self, hosts: Mapping[str, HostRecord], node: Node | None) -> bool:
        """Whether another host than a node's lives and takes tenants."""
        return any(
            not other.host.dead
            and other.host.trusted
            and (node is None or other.host is not node.host)
            and not ((record := hosts.get(other.host.name)) is not None and record.cordoned)
            for other in self._nodes.values()
        )

    # -- 5: no needless takeover, no storm, the brake --------------------------------------------

    def node_began(self, node: Node) -> None:
        self._nodes[node.incarnation] = node

    def _check_needless(self, old: OwnerRecord | None) -> None:
        if old is None or not old.host:
            return
        node = self._nodes[old.incarnation]
        host = node.host
        # A released node may not know yet that it is; then it only must not serve.
        runs = node.serving if old.state is OwnerState.RELEASED else not node.over
        if runs and not host.dead and host.trusted and node.alive():
            raise Violation(
                "needless",
                f"{old.tenant} was taken from {old.incarnation} ({old.state}, epoch {old.epoch}), "
                f"which has authority for another {node.deadline - host.now():.1f} s",
            )

    def starting(self, host: str, nodes: Iterable[Node]) -> None:
        """A host has begun a start: how many of one coordinator's are under way there?"""
        under_way = Counter(
            node.order.by for node in nodes if node.state in STARTING and not node.order.given_up
        )
        for by, count in under_way.items():
            if count > STARTS_PER_HOST:
                raise Violation("storm", f"{host} has {count} starts under way, ordered by {by}")

    def decided(
        self,
        picture: Picture,
        actions: Sequence[Action],
        resumed: frozenset[str],
        wanted: Mapping[str, TenantRecord],
    ) -> None:
        """Does nobody wake a sleeper, or stop what nobody has room for? And, with the lost hosts
        counted anew: does the brake hold? ``wanted`` is what that coordinator knows."""
        self._check_sleepers(picture, actions, wanted)
        self._check_room(picture, actions, wanted)
        fences = [action.host for action in actions if isinstance(action, Fence)]
        if not fences:
            return
        living = [
            host for host in picture.hosts.values() if host.lease.record.state is LeaseState.LIVE
        ]
        lost = [host.name for host in living if host.dead or host.unchanged_for >= WATCH]
        unconfirmed = [name for name in fences if name not in resumed]
        if unconfirmed and len(lost) >= BRAKE_HOSTS and len(lost) > BRAKE_SHARE * len(living):
            raise Violation(
                "brake", f"{unconfirmed} are fenced though {lost} of {len(living)} look lost"
            )
        confirmed_dead = {host.name for host in living if host.dead}
        if picture.watching_for < TTL and set(fences) - confirmed_dead:
            raise Violation("brake", f"{fences} are fenced by a coordinator that has just begun")

    def _check_sleepers(
        self, picture: Picture, actions: Iterable[Action], known: Mapping[str, TenantRecord]
    ) -> None:
        for action in actions:
            if not isinstance(action, Start):
                continue
            wanted, owner = known[action.tenant], picture.tenants[action.tenant].owner
            if wanted.asleep and (owner is None or owner.record.state is OwnerState.RELEASED):
                raise Violation("sleep", f"{action.tenant} sleeps, and {action.host} is to run it")

    def _check_room(
        self, picture: Picture, actions: Iterable[Action], known: Mapping[str, TenantRecord]
    ) -> None:
        """Whoever is stopped to go on elsewhere finds room there."""
        leaving = [
            action
            for action in actions
            if isinstance(action, Drain) and action.cause in ("move", "host_drained")
        ]
        if not leaving:
            return
        for action in leaving:
            owner, move = picture.tenants[action.tenant].owner, known[action.tenant].move
            over = owner is not None and move is not None and owner.record.epoch > move.epoch
            if action.cause == "move" and over:
                raise Violation("stable", f"{action.tenant} was moved, and is to move once more")
        room = sum(STARTS_PER_HOST for host in picture.hosts.values() if host.open)
        if len(leaving) > room:
            raise Violation(
                "room", f"{len(leaving)} are stopped at once, and there is room for {room}"
            )

    # -- 7: deletions ----------------------------------------------------------------------------

    def _check_deleted(self, old: OwnerRecord | None, new: OwnerRecord) -> None:
        if old is None or old.tomb is None:
            self._check_needless(old)
            wanted = self.catalog[new.tenant]
            if wanted.deletion is None:
                raise Violation("brought back", f"{new.tenant} is buried though nobody wants that")
        began = old is None or old.tomb is None or not old.tomb.erasing
        if new.tomb is not None and new.tomb.erasing and began:
            self._check_nobody_writes(new)
            # From here on nothing of it is owed to anybody.
            self._written_off[new.tenant] = new.epoch
            self._acknowledged[new.tenant] = set()
            self._active[new.tenant] = []
            self._base[new.tenant] = frozenset()

    def _check_nobody_writes(self, record: OwnerRecord) -> None:
        for node in self._nodes.values():
            runs = node.tenant == record.tenant and not node.over and not node.host.dead
            if runs and node.host.trusted and node.alive():
                raise Violation(
                    "gone", f"{record.tenant} is being removed, and {node.incarnation} may write"
                )

    # -- 6: damage -------------------------------------------------------------------------------

    def _check_damage(self, record: OwnerRecord) -> None:
        self.seen["damaged"] += 1
        source = record.parent.epoch if record.parent is not None else 0
        if not self.bucket.prefix(record.tenant, source).lost:
            raise Violation(
                "damage",
                f"{record.tenant} is called damaged though the store has lost nothing of epoch "
                f"{source}: {record.reason}",
            )


def summary(seen: Mapping[str, int]) -> str:
    """What a run has exercised, in one line."""
    return ", ".join(f"{name} {count}" for name, count in sorted(seen.items()))
