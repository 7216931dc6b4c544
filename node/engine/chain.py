"""The hash chain over the log: two logs with the same value at a sequence have the same past."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from node.engine.events import Payload

SIZE = 16

#: (sequence, execution id, kind, name, occurrence, payload)
Link = tuple[int, str, int, str, int, Payload]


def genesis(tenant: str, lineage: str, genesis_at: int) -> bytes:
    """The chain's value before the first event."""
    text = f"litefleet log 1\n{len(tenant)}:{tenant}\n{len(lineage)}:{lineage}\n{genesis_at}"
    return blake2b(text.encode(), digest_size=SIZE).digest()


def link(previous: bytes, at: int, events: Iterable[Link]) -> bytes:
    """The value after a commit of these events at `at` (unix milliseconds).

    Names and ids go in as text, with their lengths, so that the value depends on what the log
    says and not on the numbers it uses to say it, and so that no two logs say the same bytes.
    """
    parts = [f"{at}\n"]
    for sequence, execution, kind, name, occurrence, payload in events:
        if isinstance(payload, str):
            body = f"str{len(payload)}:{payload}"
        else:
            body = "-" if payload is None else f"int{len(str(payload))}:{payload}"
        parts.append(
            f"{sequence} {kind} {occurrence} {len(execution)}:{execution}{len(name)}:{name}{body}\n"
        )
    return blake2b("".join(parts).encode(), digest_size=SIZE, key=previous).digest()
