"""Does this store keep the promises that ownership stands on? Asked before anything is trusted.

Some S3 interfaces accept conditional headers and ignore them; on such a store two hosts could
both believe that they own a tenant. The probe tries each promise on throw-away keys.
"""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from backup.errors import (
    Ambiguous,
    Conflict,
    Denied,
    NotFound,
    Precondition,
    StoreError,
    Throttled,
    Unreachable,
)
from backup.store import ObjectStore

RACERS = 8
ATTEMPTS = 3
"""How often a probe is begun whose answers get lost."""


@dataclass(frozen=True, slots=True)
class Check:
    """One promise: its name, whether it was kept, and what was seen where it was not."""

    name: str
    ok: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """What a probe saw. ``ok`` only if every promise was kept."""

    checks: list[Check] = field(default_factory=list)
    hint: str = ""

    @property
    def ok(self) -> bool:
        return bool(self.checks) and all(check.ok for check in self.checks)

    @property
    def findings(self) -> list[str]:
        """The promises that were not kept, in words."""
        return [f"{check.name}: {check.detail}" for check in self.checks if not check.ok]


def probe(store: ObjectStore, nonce: str | None = None) -> ProbeReport:
    """Try every promise on keys of a fresh ``probe/<nonce>/`` and remove them again.

    Never raises: an unreachable or refusing store is a failed check. A write whose answer was lost
    shows nothing of the promises, so the probe is then begun anew, on other keys.
    """
    for _ in range(ATTEMPTS - 1):
        report, unclear = _probe(store, f"probe/{nonce or secrets.token_hex(8)}/")
        if not unclear:
            return report
    return _probe(store, f"probe/{nonce or secrets.token_hex(8)}/")[0]


def _probe(store: ObjectStore, root: str) -> tuple[ProbeReport, bool]:
    """One try, and whether it ended because an answer was lost."""
    checks: list[Check] = []
    hint = ""
    unclear = False
    try:
        checks += _conditions(store, root)
        checks.append(_race(store, root))
        checks.append(_listing(store, root))
    except StoreError as error:
        checks.append(Check("reach", False, str(error)))
        hint = _hint(error)
        unclear = isinstance(error, Ambiguous | Throttled)
    else:
        if not all(check.ok for check in checks):
            hint = (
                "this store cannot fence two owners of one tenant: use one with conditional "
                "writes (AWS S3, Cloudflare R2, MinIO, SeaweedFS)"
            )
    _clean(store, root)
    return ProbeReport(checks, hint), unclear


def _conditions(store: ObjectStore, root: str) -> list[Check]:
    key = root + "conditions"
    first = store.put(key, b"first", if_none_match=True)
    checks = [Check("create", True)]
    checks.append(
        _refused("refuse a second create", lambda: store.put(key, b"again", if_none_match=True))
    )
    second = store.put(key, b"second", if_match=first)
    checks.append(Check("replace", True))
    checks.append(
        _refused("refuse a stale replace", lambda: store.put(key, b"stale", if_match=first))
    )
    stored = store.get(key)
    whole = stored.body == b"second" and stored.etag == second
    checks.append(
        Check("read what was written", whole, "" if whole else f"read {stored.body[:20]!r}")
    )
    absent = root + "absent"
    checks.append(
        _refused("refuse to replace nothing", lambda: store.put(absent, b"x", if_match=second))
    )
    return checks


def _refused(name: str, write: object) -> Check:
    assert callable(write)
    try:
        write()
    except (Precondition, Conflict, NotFound):
        return Check(name, True)
    return Check(name, False, "the store accepted it")


def _race(store: ObjectStore, root: str) -> Check:
    key = root + "race"
    start = store.put(key, b"start", if_none_match=True)

    def contend(number: int) -> bool:
        try:
            store.put(key, f"racer {number}".encode(), if_match=start)
        except (Precondition, Conflict):
            return False
        return True

    with ThreadPoolExecutor(RACERS) as pool:
        winners = sum(pool.map(contend, range(RACERS)))
    return Check("one winner of a race", winners == 1, "" if winners == 1 else f"{winners} won")


def _listing(store: ObjectStore, root: str) -> Check:
    keys = {entry.key for entry in store.list(root)}
    expected = {root + "conditions", root + "race"}
    missing = expected - keys
    return Check("list what was written", not missing, f"missing {sorted(missing)}")


def _hint(error: StoreError) -> str:
    if isinstance(error, Denied):
        return "check the access key, its secret and its rights on the bucket (read, write, list)"
    if isinstance(error, NotFound):
        return "create the bucket first, or name one that exists"
    if isinstance(error, Unreachable):
        return "check the store's URL and that the server is running"
    return "check the store's URL, its health and the credentials"


def _clean(store: ObjectStore, root: str) -> None:
    for name in ("conditions", "race", "absent"):
        try:
            store.delete(root + name)
        except StoreError:
            # Left-over probe objects are harmless, and the finding above matters more.
            return
