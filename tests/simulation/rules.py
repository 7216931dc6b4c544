"""The rules of the protocol that the simulation can take away, one at a time."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Rules:
    """Every field is a rule; False is its broken twin."""

    # Leases and self-fencing.
    fence_before_claim: bool = True
    """A lost host's lease is swapped to `fenced` before its tenants are taken."""
    fence_what_was_watched: bool = True
    """The fence is a compare-and-swap on the watched version, not an overwrite."""
    watch_outlasts_deadline: bool = True
    """Watching takes longer than a host lives without renewal; the twin watches for 8 s."""
    deadline_from_sending: bool = True
    """A renewal counts from its sending, never after the deadline; the twin: from its answer."""
    nodes_have_deadlines: bool = True
    """Nodes end by themselves; the twin leaves it to the agent to end them."""
    effects_ask_the_deadline: bool = True
    """An effect starts only while the authority lives, whoever has been held up."""
    join_watches: bool = True
    """A new agent watches the old one's lease before it takes it."""
    over_means_dead: bool = True
    """A node is told of as over only once its processes are gone."""
    # Acknowledging.
    sync_before_ack: bool = True
    """Nothing is acknowledged that is not in the bucket."""
    owner_read: bool = True
    """The owner is read before the answer."""
    owner_read_after_sync: bool = True
    """It is read after the sync, not before."""
    # Claiming.
    claim_decided_version: bool = True
    """The claim is made on the version that the decision was made on."""
    claim_swaps: bool = True
    """The claim is a compare-and-swap, not an overwrite."""
    newer_lease: bool = True
    """A lease of another incarnation shows an owner's end only if it was read after the owner."""
    fresh_epoch: bool = True
    """Every claim has a new epoch and with it a new prefix."""
    keep_parent: bool = True
    """Superseding what never was active copies its parent; the twin walks one epoch back."""
    only_active_parents: bool = True
    """An epoch that never was active is nobody's parent."""
    newer_node_list: bool = True
    """A node's absence counts only in a list that was asked for after the owner was read."""
    unclear_is_over: bool = True
    """A node whose release is unclear has stopped and stays so; the twin takes the write for
    failed and serves on."""
    # Restoring.
    no_fixed_cut: bool = True
    """What to restore is looked up after the claim; the twin goes by an earlier list."""
    relist: bool = True
    """A gap or a short list is looked at again before it is called damage."""
    gap_check: bool = True
    """A list with a gap is not restored from."""
    floors: bool = True
    """A list that ends below a proven position is not restored from."""
    base_before_active: bool = True
    """An epoch becomes active only once its base is in the bucket."""
    only_content_damages: bool = True
    """A store that does not answer is not counted as a failure of the content."""
    # The coordinator.
    pacing: bool = True
    """At most STARTS_PER_HOST starts are under way on a host."""
    brake: bool = True
    """Many hosts lost at once are not fenced before an operator agrees."""
    orders_end_with_the_lease: bool = True
    """An order to a host ends when its lease does, whoever fenced it and whatever its last list
    of nodes said."""
    # Tenants that sleep, and hosts out of use.
    sleepers_are_left: bool = True
    """A tenant that shall sleep and has stopped is not started."""
    sleepers_say_until_when: bool = True
    """Who stops says when the next timer is due."""
    sleepers_wake_in_time: bool = True
    """The coordinator looks at that."""
    lost_sleepers_are_restored: bool = True
    """One that shall sleep and whose host is lost is started: only its log knows its timers."""
    room_before_drain: bool = True
    """Nobody is stopped to go on elsewhere before there is room."""
    moves_are_carried_out_once: bool = True
    """A move is over with the next epoch, whoever took it; the twin: only on another host."""
    # Deleting.
    bury_as_a_claim: bool = True
    """A tenant is buried only when it could be claimed; the twin does not ask who serves it."""
    settled_once: bool = True
    """A deletion that was taken back is not carried out by who saw the tombstone before."""
    created_after: bool = True
    """A name that is free is begun with only for a tenant that was created after its removal."""
    # Going back in place.
    restore_after_release: bool = True
    """A past state is claimed only once all of the newest one is in the bucket, to go back to."""
    restore_once: bool = True
    """Who claims after a restore goes on from its end; the twin goes back again."""
    origin_is_copied: bool = True
    """Who supersedes a restore before it is active carries it out; the twin forgets it."""


ALL = Rules()
NAMES = tuple(field.name for field in fields(Rules))
OF_DELETING = ("bury_as_a_claim", "settled_once", "created_after")
"""Those that are needed only where tenants are deleted."""
OF_RESTORING = ("restore_after_release", "restore_once", "origin_is_copied")
"""Those that are needed only where tenants are taken back."""


def without(name: str) -> Rules:
    """The protocol with one rule taken away."""
    assert name in NAMES, name
    return Rules(**{name: False})
