"""A fleet's records made anew from its bucket: looked for, judged, written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from backup import keys, receipts, records
from backup.catalog import CatalogRecord
from backup.errors import Precondition
from backup.keys import BadTenantName
from backup.lease import LeaseRecord, LeaseState
from backup.lineage import EpochRecord
from backup.ownership import OwnerRecord, TenantRecord
from backup.records import BadRecord, R, Versioned
from backup.store import ObjectStore
from fleet.coordinator import seating
from fleet.recovery import Facts, Finding, judge
from restore.plan import list_epoch


def look(
    store: ObjectStore,
    coordinators: ObjectStore,
    *,
    tenants: Iterable[str] = (),
    given: Mapping[str, str] | None = None,
    progress: Callable[[str], None] = lambda name: None,
) -> list[Finding]:
    """What became of every tenant's records, or of some tenants', and of the coordinators' log.

    Args:
        coordinators: the place of the fleet of coordinators.
        tenants: their names; none for all that the bucket or the copy of the catalog knows.
        given: the application of tenants of which it is not known.
        progress: told whose turn it is.

    Raises:
        StoreError: the bucket could not be read.
    """
    copy = _catalog(coordinators)
    running = _running(store)
    chosen = list(tenants)
    names = chosen or sorted({*store.prefixes(keys.TENANTS), *copy})
    found = []
    for name in names:
        progress(name)
        app = (given or {}).get(name)
        facts = _facts(store, name, copy.get(name), running.get(name, ()), app)
        found.append(judge(facts))
    if not chosen:
        found.append(judge(_facts(coordinators, seating.TENANT, None, (), None, bare=True)))
    return found


def write(store: ObjectStore, finding: Finding) -> str:
    """Write what was found to be missing; in words, what came of it. Raises `StoreError`."""
    done = []
    # The owner first: once somebody is wanted, a coordinator starts them with what it finds.
    for key, record, over in (
        (keys.owner(finding.tenant), finding.owner, finding.owner_over),
        (keys.wanted(finding.tenant), finding.wanted, finding.wanted_over),
    ):
        if record is None:
            continue
        try:
            records.swap(store, key, record, over)
        except Precondition:
            return "it has changed meanwhile; look again"
        done.append(key.rpartition("/")[2])
    return f"wrote {' and '.join(done)}" if done else "nothing to write"


def _catalog(coordinators: ObjectStore) -> dict[str, TenantRecord]:
    try:
        found = records.read(coordinators, keys.CATALOG, CatalogRecord)
    except BadRecord:
        return {}
    return dict(found.record.tenants) if found is not None else {}


def _running(store: ObjectStore) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for host in store.prefixes(keys.HOSTS):
        lease, _ = _read(store, keys.lease(host), LeaseRecord)
        if lease is None or lease.record.state is not LeaseState.LIVE:
            continue
        for tenant in lease.record.proven:
            found[tenant] = (*found.get(tenant, ()), host)
    return found


def _facts(
    store: ObjectStore,
    name: str,
    copy: TenantRecord | None,
    running: tuple[str, ...],
    given: str | None,
    *,
    bare: bool = False,
) -> Facts:
    wanted, bad_wanted = _read(store, keys.wanted(name), TenantRecord)
    owner, bad_owner = _read(store, keys.owner(name), OwnerRecord)
    epochs = tuple(int(one) for one in store.prefixes(keys.epochs(name)) if one.isdigit())
    lineage = {}
    for entry in store.list(keys.lineages(name)):
        record, _ = _read(store, entry.key, EpochRecord)
        if record is not None:
            lineage[record.record.epoch] = record.record
    sound = owner is not None and owner.record.epoch >= max(lineage, default=0)
    newest = None if sound or not lineage else list_epoch(store, name, max(lineage))
    bad = {"wanted": bad_wanted, "owner": bad_owner}
    try:
        removed = () if bare else tuple(receipts.read_all(store, name))
    except BadTenantName:
        removed = ()  # nobody could be created under it, or deleted
    return Facts(
        tenant=name,
        wanted=wanted,
        owner=owner,
        unreadable={what: etag for what, etag in bad.items() if etag is not None},
        copy=copy,
        epochs=epochs,
        lineage=lineage,
        newest=newest,
        running=running,
        given=given,
        bare=bare,
        receipts=removed,
    )


def _read(store: ObjectStore, key: str, model: type[R]) -> tuple[Versioned[R] | None, str | None]:
    """A record; or the ETag of one that is there and cannot be read."""
    try:
        return records.read(store, key, model), None
    except BadRecord:
        return None, store.get(key).etag
