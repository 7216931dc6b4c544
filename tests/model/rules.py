"""The rules of the protocol that the model can take away, one at a time."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Rules:
    """Every field is a rule; False is its broken twin."""

    # Records.
    swaps: bool = True
    """The store keeps the conditions of writes; the twin's lets every write through."""
    unclear_is_over: bool = True
    """A node that cannot tell whether it is released has stopped for good; the twin serves on."""
    # Leases and self-fencing.
    fence_before_claim: bool = True
    """A silent host's lease is swapped to `fenced` before its tenants are taken."""
    fence_what_was_watched: bool = True
    """The fence is a swap at the watched version, not an overwrite."""
    watch_outlasts_deadline: bool = True
    """Watching takes longer than a host lives without renewal; the twin watches for 8 s."""
    counted_from_sending: bool = True
    """A renewal extends the deadline from the moment of its sending; the twin: of its answer."""
    deadline_first: bool = True
    """After a pause the deadline is looked at before anything else."""
    own_deadlines: bool = True
    """Nodes end at their deadline by themselves; the twin leaves it to the next renewal."""
    join_watches: bool = True
    """A new agent of a host watches the lease of the one before it."""
    # Acknowledging.
    sync_before_ack: bool = True
    """Nothing is acknowledged that is not in the bucket."""
    commits_before_sync: bool = True
    """A round covers what was committed before its sync; the twin: before its answer."""
    owner_read: bool = True
    """The owner is read before the answer."""
    owner_read_after_sync: bool = True
    """It is read after the sync, not before."""
    # Claiming.
    claim_decided_version: bool = True
    """A claim is made on the version that the decision was made on."""
    newer_lease: bool = True
    """A lease of another incarnation shows an owner's end only if it was read after the owner."""
    newer_node_list: bool = True
    """A node's absence counts only in a list that was asked for after the owner was read."""
    fresh_epoch: bool = True
    """Every claim has a new epoch, and with it a new prefix."""
    keep_parent: bool = True
    """Superseding what never was active copies its parent; the twin goes one epoch back."""
    only_active_parents: bool = True
    """An epoch that never was active is nobody's parent."""
    new_epoch_after_crash: bool = True
    """What runs after a crash has a new epoch; the twin goes on with its disk in the old one."""
    # Restoring.
    list_after_claim: bool = True
    """What to restore is looked up after the claim, not before."""
    levels_upwards: bool = True
    """Levels are listed from 0 upwards, as files move; the twin lists the higher ones first."""
    relist: bool = True
    """A gap or an early end is looked at again before it is called damage."""
    gap_check: bool = True
    """A list with a gap is not restored from."""
    floor_of_release: bool = True
    """What ends below the position of the release is not restored from."""
    floor_of_lease: bool = True
    """What ends below a position that the lost host's lease had proven is not restored from."""
    no_walking_back: bool = True
    """Where the parent is not whole the tenant is damaged; the twin takes the epoch before."""
    empty_is_made_sure_of: bool = True
    """A new tenant starts empty only if the bucket holds nothing of it."""
    fresh_folder: bool = True
    """A restore has a folder to itself; the twin's lies beside an old WAL."""
    tail_goes_on: bool = True
    """A local log is used only if it goes on from the bucket's."""
    base_before_active: bool = True
    """An epoch becomes active only once its base is seen in the bucket."""
    # Handing over.
    engine_stops_first: bool = True
    """The engine has stopped before the last sync of a planned stop."""
    release_is_proven: bool = True
    """A release is written only after its position was read from the bucket."""
    # Deleting.
    bury_as_a_claim: bool = True
    """A tenant is buried only when it could be claimed; the twin does not ask who serves it."""
    buried_is_a_parent: bool = True
    """A burial has an epoch of its own, with the one before as its parent."""
    mark_before_removal: bool = True
    """Before the first file goes it is marked that there is no way back."""
    wait_for_writers: bool = True
    """Nothing is removed before every host has said that it has no node of the tenant's."""
    remove_only_the_past: bool = True
    """Only files of epochs up to the marked one are removed; the twin removes what it finds."""
    epoch_outlives_erasure: bool = True
    """Whoever has the name next goes on with its epochs; the twin begins with the first."""


ALL = Rules()
NAMES = tuple(field.name for field in fields(Rules))


def without(name: str) -> Rules:
    """The protocol with one rule taken away."""
    assert name in NAMES, name
    return Rules(**{name: False})
