"""Every walk of a few steps through the transitions of owner.json, restores in place and removals
among them: what a tenant is made of is always what it was told, and nothing needed is marked.

The bucket is as simple as can be: each epoch holds a list of commits, and a claim that becomes
active begins with those of its source. The broken twins change one transition each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from backup import ownership
from backup.ownership import NotAllowed, Origin, Owner, OwnerRecord, OwnerState, Parent

A = Owner(host="a", incarnation="l.a")
B = Owner(host="b", incarnation="l.b")
DEPTH = 11


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
    for older, content in walk.epochs:
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
    if origin is not None:
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
    taken = sum(one.startswith("claim ") for one in walk.did)
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
                ahead = (after.expected, after.asked, after.gone, pending, goes_to)
                state = (fields, after.epochs, ahead)
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
