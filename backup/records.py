"""Records in the bucket that change only by compare-and-swap (protocol.md, "Records").

A write without an answer is resolved by the record's nonce: re-read and look for it; while it is
absent, repeat the identical write until it succeeds or is refused. Absence alone proves nothing,
since the first write may still land. (A late ``released`` once cut off acknowledged commits.)
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backup.errors import Ambiguous, Conflict, NotFound, Precondition, StoreError, Throttled
from backup.errors import Unreachable as Unreached
from backup.store import ObjectStore

WRITE_PAUSE = 0.1
"""Seconds between repetitions of a write whose outcome is unknown."""


class Record(BaseModel):
    """What every record carries. ``rev`` counts its writes; ``nonce`` tells them apart.

    Without the nonce, equal bodies would have equal ETags and a stale writer would pass.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    rev: int = 1
    nonce: str = Field(default_factory=lambda: secrets.token_hex(8))

    def succeeded_by(self, **changes: object) -> dict[str, object]:
        """The fields of the next write of this record: changes, next ``rev``, fresh nonce."""
        return {**changes, "rev": self.rev + 1, "nonce": secrets.token_hex(8)}


R = TypeVar("R", bound=Record)


class BadRecord(StoreError):
    """A record in the bucket does not read as what it should be; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Versioned(Generic[R]):
    """A record and the ETag at which it was read or written."""

    record: R
    etag: str


def read(store: ObjectStore, key: str, model: type[R]) -> Versioned[R] | None:
    """The record at ``key``, or None where there is none.

    Raises:
        BadRecord: it does not parse.
        StoreError: the store could not be read; this says nothing about the record.
    """
    try:
        stored = store.get(key)
    except NotFound:
        return None
    try:
        return Versioned(model.model_validate_json(stored.body), stored.etag)
    except ValidationError as error:
        raise BadRecord(f"{key} is not a {model.__name__}: {error.errors()[0]['msg']}") from error


def change(
    store: ObjectStore, key: str, model: type[R], decide: Callable[[R | None], R | None]
) -> R | None:
    """Swap a record for what ``decide`` makes of it as it is then, None where there is none yet;
    again where another write came first. Where ``decide`` gives None, it is left.

    Returns:
        The record as it stands.

    Raises:
        StoreError: the write was not settled, or the record could not be read.
    """
    while True:
        found = read(store, key, model)
        wanted = decide(found.record if found is not None else None)
        if wanted is None:
            return found.record if found is not None else None
        try:
            return swap(store, key, wanted, found.etag if found is not None else None).record
        except Precondition:
            continue


def swap(
    store: ObjectStore,
    key: str,
    record: R,
    over: str | None,
    *,
    may_send: Callable[[], bool] = lambda: True,
    patience: float = 10.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Versioned[R]:
    """Write ``record`` over the version with ETag ``over`` (None: where there is none yet).

    Args:
        may_send: asked before every send; once it says no, nothing more goes out.
        patience: seconds for which an unresolved write is repeated.

    Raises:
        Precondition: another write came first (or comes first now); re-read and decide again.
        Ambiguous: unresolved when patience or ``may_send`` ended; it may have landed or may yet.
        StoreError: it was refused for another reason.
    """
    body = record.model_dump_json().encode()
    until = clock() + patience
    uncertain = False
    while True:
        if not may_send():
            raise Ambiguous(f"stopped before {key} was written: no longer allowed to")
        try:
            etag = store.put(key, body, if_match=over, if_none_match=over is None)
        except Precondition:
            landed = _landed(store, key, record) if uncertain else None
            if landed is None:
                raise
            return landed
        except Ambiguous:
            uncertain = True
            landed = _look(store, key, record)
            if landed is not None:
                return landed
        except NotFound:
            # If-Match on a missing key: S3 answers 404, others 412. Records are never deleted.
            if over is None:
                raise
            raise Precondition(f"{key} is gone") from None
        except (Conflict, Throttled, Unreached):
            pass
        else:
            return Versioned(record, etag)
        if clock() >= until:
            raise Ambiguous(f"{key}: no answer that settles the write within {patience:.0f} s")
        sleep(WRITE_PAUSE)


def _landed(store: ObjectStore, key: str, record: R) -> Versioned[R] | None:
    now = read(store, key, type(record))
    return now if now is not None and now.record.nonce == record.nonce else None


def _look(store: ObjectStore, key: str, record: R) -> Versioned[R] | None:
    try:
        return _landed(store, key, record)
    except StoreError:
        return None
