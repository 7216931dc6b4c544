"""The hash chain over the log: two logs with the same value at a sequence have the same past.

It tells damage and forks; it is no signature, since who can write the file can write a new chain.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

from node.engine.blobs import Kept

#: Bytes of a value of the chain, and of an event's digest.
SIZE: Final = 12
#: Bytes of a value in a log's beginning, and in a commit that versions 1 and 2 wrote.
FLAT_SIZE: Final = 16

#: (sequence, execution id, kind, name, occurrence, payload)
Link = tuple[int, str, int, str, int, Kept]


def genesis(tenant: str, lineage: str, genesis_at: int) -> bytes:
    """The chain's value before the first event."""
    text = f"litefleet log 1\n{len(tenant)}:{tenant}\n{len(lineage)}:{lineage}\n{genesis_at}"
    return blake2b(text.encode(), digest_size=FLAT_SIZE).digest()


def digest(
    sequence: int, execution: str, kind: int, name: str, occurrence: int, payload: Kept
) -> bytes:
    """What an event is in the chain, even when the event itself is gone.

    Names and ids go in as text, with their lengths, so that the value depends on what the log
    says and not on the numbers it uses to say it, and so that no two events say the same bytes.
    """
    return blake2b(
        _text(sequence, execution, kind, name, occurrence, payload).encode(), digest_size=SIZE
    ).digest()


def seal(previous: bytes, at: int, digests: Iterable[bytes]) -> bytes:
    """The value after a commit of the events with these digests, at `at` (unix milliseconds)."""
    return blake2b(b"%d\n%b" % (at, b"".join(digests)), digest_size=SIZE, key=previous).digest()


def value(size: int, previous: bytes, at: int, events: Iterable[Link]) -> bytes:
    """The value after a commit of these events, in the way that gives one of this size."""
    if size == FLAT_SIZE:
        text = "".join([f"{at}\n", *(_text(*event) for event in events)])
        return blake2b(text.encode(), digest_size=FLAT_SIZE, key=previous).digest()
    return seal(previous, at, [digest(*event) for event in events])


def rest(chain: bytes, at: int) -> int:
    """The sum over what is left of a commit, before anything is: add the `term` of each event.

    `chain` is the commit's value, which cannot be computed any more.
    """
    return int.from_bytes(blake2b(b"rest %d" % at, digest_size=SIZE, key=chain).digest())


def term(event: Link) -> int:
    """What an event adds to such a sum."""
    return int.from_bytes(digest(*event))


def packed(total: int) -> bytes:
    """Such a sum as the log has it."""
    return (total % (1 << 8 * SIZE)).to_bytes(SIZE)


def _text(
    sequence: int, execution: str, kind: int, name: str, occurrence: int, payload: Kept
) -> str:
    if payload.__class__ is str:
        body = f"str{len(payload)}:{payload}"
    elif isinstance(payload, bytes):
        body = f"blob{payload.hex()}"
    else:
        body = "-" if payload is None else f"int{len(str(payload))}:{payload}"
    return f"{sequence} {kind} {occurrence} {len(execution)}:{execution}{len(name)}:{name}{body}\n"
