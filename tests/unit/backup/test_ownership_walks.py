"""Every walk of a few steps through the transitions of owner.json, restores in place, removals and
deletions among them: what a tenant is made of is always what it was told, and nothing needed is
marked.

The bucket is as simple as can be: each epoch holds a list of commits, and a claim that becomes
active begins with those of its source. The broken twins change one transition each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from backup import burial, ownership
from backup.ownership import NotAllowed, Origin, Owner, OwnerRecord, OwnerState, Parent

A = Owner(host="a", incarnation="l.a")
B = Owner(host="b", incarnation="l.b")
DEPTH = 11
MOST_DELETIONS = 1


class Wrong(AssertionError):
    """Something that must hold does not."""


@dataclass(frozen=True)
class Walk:
    """A tenant, what each of its epochs holds, and what must come next."""

    record: OwnerRecord
    owner: Owner
    epochs: tuple[tuple[int, tuple[int, ...]], ...] = ()
    expected: tuple[int, ...] = ()
    """What the next active epoch must begin with."""
    asked: int = 0
    """Restores that were asked for."""
    pending: Origin | None = None
    gone: frozenset[int] = frozenset()
    commits: int = 0
    deletions: int = 0
    """Deletions that were asked for."""
    erasing: bool = False
    """Its data is being removed."""
    did: tuple[str, ...] = ()

    def content(self, epoch: int) -> tuple[int, ...]:
        return dict(self.epochs)[epoch]

    def holding(
        self, epoch: int, content: tuple[int, ...]
    ) -> tuple[tuple[int, tuple[int, ...]], ...]:
        return tuple(sorted({**dict(self.epochs), epoch: content}.items()))

    def then(self, what: str, **changes: object) -> Walk:
        return replace(self, did=(*self.did, what), **changes)  # type: ignore[arg-type]


def start() -> Walk:
    record = ownership.claim(None, "t", A, authority_ended=True)
    record = ownership.activate(record, A, 1)
    return Walk(record, A, epochs=((1, (0,)),), commits=1)


def steps(walk: Walk) -> Iterator[Walk]:
    """All that can happen next."""
    record, owner = walk.record, walk.owner
    epoch = record.epoch
    if record.state is OwnerState.ACTIVE:
        commit = (*walk.content(epoch), walk.commits)
        if walk.commits < 3:
            yield walk.then("commit", epochs=walk.holding(epoch, commit), commits=walk.commits + 1)
        drained = ownership.drain(record, owner, epoch)
        yield walk.then("release", record=ownership.release(drained, owner, epoch, 9, None))
        yield from claims(walk, None)  # its host is lost
    elif record.state is OwnerState.RESTORING:
        if record.host:
            yield activated(walk)
            given_up = ownership.give_up(record, owner, epoch, reason="the host")
            yield walk.then("give up", record=given_up)
            if record.origin is not None:
                yield failed(walk)
        yield from claims(walk, None)
    elif record.state is OwnerState.RELEASED:
        yield from claims(walk, None)
    yield from deletions(walk)
    for older, content in walk.epochs:
        if record.state is OwnerState.DELETED:
            break  # the coordinator refuses it
        if walk.pending is None and walk.asked < 2 and older not in (*walk.gone, *record.purging):
            number = walk.asked + 1
            origin = Origin(
                tenant="t", lineage=record.lineage, epoch=older, txid=1, number=number,
                sequence=len(content),
            )  # fmt: skip
            yield walk.then(f"ask for {older}", pending=origin, asked=number)
    if walk.pending is not None:
        yield from claims(walk, walk.pending)
    for older, _ in walk.epochs:
        try:
            marked = ownership.mark_purging(record, [older])
        except NotAllowed:
            continue
        if older not in record.purging:
            yield walk.then(f"mark {older}", record=marked)
    for older in record.purging:
        yield walk.then(
            f"purge {older}",
            record=ownership.unmark_purged(record, older),
            gone=walk.gone | {older},
        )


def deletions(walk: Walk) -> Iterator[Walk]:
    """The tenant is buried, brought back, or removed and made anew."""
    record, tomb = walk.record, walk.record.tomb
    if tomb is None or tomb.erased:
        if walk.deletions < MOST_DELETIONS and not (tomb and tomb.erased):
            number = walk.deletions + 1
            buried = burial.bury(record, "t", number, authority_ended=True)
            expected = walk.expected
            if record.state is not OwnerState.RESTORING:
                expected = walk.content(record.epoch)
            yield walk.then("bury", record=buried, deletions=number, expected=expected)
        if tomb is not None:
            yield from claims(walk, None)
        return
    number = walk.deletions
    if not walk.erasing:
        yield walk.then("bring back", record=burial.unbury(record, "t", number))
        begun = burial.begin_erasing(record, number)
        yield walk.then("begin to erase", record=begun, erasing=True)
        return
    try:
        burial.unbury(record, "t", number)
    except NotAllowed:
        pass
    else:
        raise Wrong(f"{walk.did}: half of it is brought back")
    yield walk.then(
        "erase",
        record=burial.end_erasing(record, number),
        gone=frozenset(epoch for epoch, _ in walk.epochs),
        expected=(),
        asked=0,
        pending=None,
        erasing=False,
    )


def claims(walk: Walk, origin: Origin | None) -> Iterator[Walk]:
    """The next claim, if there may be one."""
    other = B if walk.owner == A else A
    record = walk.record
    if origin is not None and (origin.epoch in walk.gone or origin.epoch in record.purging):
        return  # the take-over refuses it, see node.takeover
    try:
        claimed = ownership.claim(record, "t", other, authority_ended=True, origin=origin)
    except NotAllowed:
        return
    expected = walk.expected
    if record.state is OwnerState.DELETED:
        if claimed.lineage == record.lineage or not claimed.genesis:
            raise Wrong(f"{walk.did}: another tenant goes on from one that was removed")
    elif origin is not None:
        expected = walk.content(origin.epoch)
    elif record.state is not OwnerState.RESTORING:
        expected = walk.content(record.epoch)
    yield walk.then(
        "claim" if origin is None else f"claim {origin.epoch}",
        record=claimed,
        owner=other,
        expected=expected,
        pending=None if origin is not None else walk.pending,
    )


def activated(walk: Walk) -> Walk:
    """A take-over restores what its record says, and nothing else."""
    record = walk.record
    if record.epoch in dict(walk.epochs):
        raise Wrong(f"{walk.did}: epoch {record.epoch} is used again")
    if record.genesis and record.parent is None and record.origin is None:
        content: tuple[int, ...] = ()
    else:
        source = record.origin.epoch if record.origin is not None else record.parent.epoch  # type: ignore[union-attr]
        if source in walk.gone:
            raise Wrong(f"{walk.did}: what it is made of is gone")
        content = walk.content(source)
    if content != walk.expected:
        raise Wrong(f"{walk.did}: made of {content}, and it was to be {walk.expected}")
    return walk.then(
        "activate",
        record=ownership.activate(record, walk.owner, record.epoch),
        epochs=walk.holding(record.epoch, content),
    )


def failed(walk: Walk) -> Walk:
    """The past state cannot be had: it goes on from where it was."""
    record = ownership.damage(walk.record, walk.owner, walk.record.epoch, "gone")
    assert record.state is OwnerState.RESTORING
    assert record.parent is not None
    return walk.then("fail", record=record, expected=walk.content(record.parent.epoch))


def check(walk: Walk) -> None:
    record = walk.record
    if record.parent is not None:
        newest = max(epoch for epoch, _ in walk.epochs if epoch != record.epoch)
        if record.parent.epoch != newest:
            raise Wrong(f"{walk.did}: its parent is {record.parent.epoch}, not {newest}")
    for needed in ownership.needed(record) & {epoch for epoch, _ in walk.epochs}:
        if needed in walk.gone or needed in record.purging:
            raise Wrong(f"{walk.did}: epoch {needed} is removed and needed")
    if record.restored > walk.asked:
        raise Wrong(f"{walk.did}: a restore that nobody asked for")
    if walk.pending is not None and record.restored >= walk.pending.number:
        raise Wrong(f"{walk.did}: a restore that was never carried out counts as taken up")
    since = walk.did[::-1].index("erase") if "erase" in walk.did else len(walk.did)
    taken = sum(one.startswith("claim ") for one in walk.did[len(walk.did) - since :])
    if record.restored != taken:
        raise Wrong(
            f"{walk.did}: {taken} restores were taken up, and {record.restored} are counted"
        )


def explore(depth: int = DEPTH) -> int:
    """All walks; how many states there are."""
    frontier, seen = [start()], set[object]()
    for _ in range(depth):
        following = []
        for walk in frontier:
            for after in steps(walk):
                check(after)
                fields = after.record.model_dump_json(exclude={"nonce", "rev", "lineage"})
                pending = after.pending.number if after.pending is not None else 0
                goes_to = after.pending.epoch if after.pending is not None else 0
                ahead = (after.expected, after.asked, after.gone, pending, goes_to, after.deletions)
                state = (fields, after.epochs, ahead, after.erasing)
                if state not in seen:
                    seen.add(state)
                    following.append(after)
        frontier = following
    return len(seen)


def test_every_walk_keeps_what_it_was_told() -> None:
    assert explore() > 50_000


def forget_origin(record: OwnerRecord, before: OwnerRecord) -> OwnerRecord:
    """Who supersedes a restore goes on from the parent."""
    if before.state is OwnerState.RESTORING and before.origin is not None:
        return record.model_copy(update={"origin": None})
    return record


def keep_origin(record: OwnerRecord, before: OwnerRecord) -> OwnerRecord:
    """The claim after a restore goes back again."""
    if before.state is OwnerState.ACTIVE and before.origin is not None:
        return record.model_copy(update={"origin": before.origin})
    return record


def number_forgotten(record: OwnerRecord, before: OwnerRecord) -> OwnerRecord:
    """That a restore was taken up is not kept: it may be ordered once more."""
    return record.model_copy(update={"restored": before.restored})


def parent_of_origin(record: OwnerRecord, before: OwnerRecord) -> OwnerRecord:
    """The past epoch is taken for the parent."""
    if record.origin is not None:
        return record.model_copy(update={"parent": Parent(epoch=record.origin.epoch)})
    return record


@pytest.mark.parametrize("twin", [forget_origin, keep_origin, number_forgotten, parent_of_origin])
def test_a_claim_that_is_broken_is_noticed(
    twin: Callable[[OwnerRecord, OwnerRecord], OwnerRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = ownership.claim

    def broken(now: OwnerRecord | None, *rest: object, **more: object) -> OwnerRecord:
        made = claim(now, *rest, **more)  # type: ignore[arg-type]
        return made if now is None else twin(made, now)

    monkeypatch.setattr(ownership, "claim", broken)
    with pytest.raises(Wrong):
        explore()


def test_a_mark_that_sees_only_the_present_epoch_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a claim reads is marked under it, and is gone when it comes to read."""
    monkeypatch.setattr(ownership, "needed", lambda now: frozenset({now.epoch}))
    with pytest.raises(Wrong, match="gone"):
        explore()


def brought_back_by_the_old_owner(record: OwnerRecord, before: OwnerRecord) -> OwnerRecord:
    """Bringing back forgets what the newest state was."""
    return record.model_copy(update={"parent": before.parent and Parent(epoch=1)})


def brought_back_empty(record: OwnerRecord, before: OwnerRecord) -> OwnerRecord:
    """Bringing back makes a new tenant."""
    return record.model_copy(update={"parent": None, "genesis": True})


def erased_in_place(record: OwnerRecord, before: OwnerRecord) -> OwnerRecord:
    """The epoch begins anew with the name."""
    return record.model_copy(update={"epoch": 0})


def erased_with_its_past(record: OwnerRecord, before: OwnerRecord) -> OwnerRecord:
    """The name's next tenant is not told from the one that is gone."""
    return record.model_copy(update={"tomb": None, "state": OwnerState.RELEASED})


def erased_with_its_restores(record: OwnerRecord, before: OwnerRecord) -> OwnerRecord:
    """The next tenant's first restore, or the fork that it is, counts as taken up."""
    return record.model_copy(update={"restored": 1})


def way_back_from_half(record: OwnerRecord, before: OwnerRecord) -> OwnerRecord:
    """The removal begins without a mark."""
    return record.model_copy(update={"tomb": before.tomb})


@pytest.mark.parametrize(
    ("what", "twin"),
    [
        ("unbury", brought_back_by_the_old_owner),
        ("unbury", brought_back_empty),
        ("end_erasing", erased_in_place),
        ("end_erasing", erased_with_its_past),
        ("end_erasing", erased_with_its_restores),
        ("begin_erasing", way_back_from_half),
    ],
)
def test_a_burial_that_is_broken_is_noticed(
    what: str,
    twin: Callable[[OwnerRecord, OwnerRecord], OwnerRecord],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = getattr(burial, what)

    def broken(now: OwnerRecord, *rest: object) -> OwnerRecord:
        return twin(right(now, *rest), now)

    monkeypatch.setattr(burial, what, broken)
    with pytest.raises((Wrong, KeyError)):
        explore()
