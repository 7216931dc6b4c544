"""The chains of a fleet's tenants in the bucket, checked file by file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import BaseModel

from backup import keys
from backup.settings import StoreSettings
from backup.store import S3Store
from fleet.reached import find_reached
from restore.errors import RestoreFailed
from restore.history import read_history
from restore.moment import EndOf, Now
from restore.scan import Scan, scan


class ChainView(BaseModel):
    """One epoch's chain. `reachable` is the newest position that whole files lead to, `wanted` the
    one that should be; `findings` says what is wrong. `bookmark` is the newest log event that can
    be reached in spite of it, None where nothing can or nothing is wrong."""

    tenant: str
    epoch: int
    whole: bool
    files: int
    bytes: int
    reachable: int
    wanted: int
    findings: list[str]
    bookmark: str | None = None


def verify_chains(
    settings: StoreSettings,
    tenants: Sequence[str] | None,
    *,
    all_epochs: bool,
    progress: Callable[[str, int, int], None],
) -> list[ChainView]:
    """Check the chains of these tenants, or of all that were ever started. What a damaged one still
    leads to is restored somewhere harmless, to say which bookmark that is.

    `progress` is told whose chain is read, bytes read, of how many. Raises RestoreFailed for a
    tenant that is named and has no state, StoreError where the store cannot be read.
    """
    store = S3Store(settings)
    found = []
    for tenant in tenants or sorted(store.prefixes(keys.TENANTS)):
        try:
            history = read_history(store, tenant)
        except RestoreFailed:
            if tenants:
                raise
            continue
        for span in history.spans if all_epochs else history.spans[:1]:

            def tell(done: int, total: int, tenant: str = tenant, epoch: int = span.epoch) -> None:
                progress(f"{tenant}, epoch {epoch}", done, total)

            chain = _view(tenant, scan(store, tenant, span, progress=tell))
            if chain.reachable < chain.wanted:
                moment = Now() if span == history.spans[0] else EndOf(span.epoch)
                reached = find_reached(settings, tenant, moment, progress=tell)
                chain.bookmark = reached.bookmark
                chain.findings.append(reached.words)
            found.append(chain)
    return found


def _view(tenant: str, found: Scan) -> ChainView:
    findings = [f"{item.file.name}: {item.reason}" for item in found.bad]
    if found.missing is not None:
        findings.append(found.missing)
    return ChainView(
        tenant=tenant,
        epoch=found.epoch,
        whole=found.whole,
        files=found.files,
        bytes=found.bytes,
        reachable=found.reachable,
        wanted=found.wanted,
        findings=findings,
    )
