"""What is kept of a tenant that was deleted: a receipt, outside the tenant's own prefix.

It is written as the removal goes: each batch is in it before the first object of that batch is
removed, so that whoever goes on after a crash counts nothing twice and leaves nothing out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backup import keys, records
from backup.errors import StoreError
from backup.records import Record
from backup.store import Entry, ObjectStore

KINDS = ("replicas", "lineage", "copies", "drills", "other")
"""What a tenant has in the bucket: Litestream's files, what each epoch came from, independent
copies and their records, drills, and whatever else lies under its prefix."""


class Removed(BaseModel):
    """How much was removed: objects, and their bytes."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    objects: int = 0
    bytes: int = 0

    def and_(self, size: int) -> Removed:
        """With one more object of that size."""
        return Removed(objects=self.objects + 1, bytes=self.bytes + size)


class HostRemains(BaseModel):
    """What was removed on a host: folders of nodes that had run there, and their bytes. ``problem``
    says why it could not be looked at, empty if it was."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    folders: int = 0
    bytes: int = 0
    problem: str = ""


class Receipt(Record):
    """``deleted/<tenant>/<number>.json``. All moments are unix seconds by the store's clock.

    ``epoch`` is the tenant's last one. ``kinds`` and ``epochs`` tell how much was removed, by kind
    and by epoch. ``removed`` is a hash (hex SHA-256) over the names and sizes of all objects in the
    order in which they went: each link is that of the one before, a space, the name, a space, the
    size. ``batch`` are the names that it covers and that may not be gone yet.

    ``keys`` says what became of the sidecar's storage keys, ``versions`` whether the bucket keeps
    removed objects in spite of all this. ``late`` is what came into the prefix after it was empty,
    from a node that should have been dead, and was removed as well.

    ``content`` is the hash of all of the above; see `sealed`.
    """

    tenant: str
    number: int = Field(ge=1)
    lineage: str
    epoch: int
    asked_at: float
    purge_after: float
    by: str = ""
    why: str = ""
    began_at: float
    purged_at: float | None = None
    kinds: dict[str, Removed] = Field(default_factory=dict)
    epochs: dict[int, Removed] = Field(default_factory=dict)
    removed: str = ""
    batch: tuple[str, ...] = ()
    keys: str = ""
    versions: str = ""
    hosts: dict[str, HostRemains] = Field(default_factory=dict)
    late: Removed = Removed()
    content: str = ""

    @property
    def total(self) -> Removed:
        """All that was removed from the bucket."""
        every = [*self.kinds.values(), self.late]
        return Removed(
            objects=sum(one.objects for one in every), bytes=sum(one.bytes for one in every)
        )

    def covering(self, entries: Iterable[Entry]) -> Receipt | None:
        """With a batch that is about to be removed; None if it covers all of them already."""
        new = [entry for entry in entries if entry.key not in set(self.batch)]
        if not new:
            return None
        kinds, epochs, link = dict(self.kinds), dict(self.epochs), self.removed
        for entry in new:
            kind, epoch = kind_of(self.tenant, entry.key)
            kinds[kind] = kinds.get(kind, Removed()).and_(entry.size)
            if kind == "replicas" and epoch is not None:
                epochs[epoch] = epochs.get(epoch, Removed()).and_(entry.size)
            link = hashlib.sha256(f"{link} {entry.key} {entry.size}".encode()).hexdigest()
        left = tuple(entry.key for entry in entries)
        changed = self.succeeded_by(kinds=kinds, epochs=epochs, removed=link, batch=left)
        return self.model_copy(update=changed)

    def sealed(self) -> Receipt:
        """With the hash of what it says, for its next write."""
        changed = self.model_copy(update=self.succeeded_by())
        return changed.model_copy(update={"content": changed.fingerprint()})

    def fingerprint(self) -> str:
        """The hex SHA-256 of all fields but ``content``, ``rev``, ``nonce`` and ``batch``, as JSON
        with sorted keys and no spaces."""
        fields = self.model_dump(mode="json", exclude={"content", "rev", "nonce", "batch"})
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def intact(self) -> bool:
        """Whether it still says what it said when it was sealed last."""
        return self.content == self.fingerprint()


def kind_of(tenant: str, key: str) -> tuple[str, int | None]:
    """What kind of thing an object of the tenant's is, and of which epoch: None where its name does
    not tell."""
    first, _, rest = key.removeprefix(keys.everything(tenant)).partition("/")
    if first == "epochs":
        return "replicas", _number(rest.partition("/")[0])
    if first == "lineage":
        return first, _number(rest.partition(".")[0])
    if first == "copies":
        # See `Copy.name`.
        parts = rest.split("-")
        return first, _number(parts[1]) if len(parts) > 2 else None
    return ("drills" if key == keys.drills(tenant) else "other"), None


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None


def read(store: ObjectStore, tenant: str, number: int) -> Receipt | None:
    """The receipt of one deletion, None where there is none. Raises `StoreError`."""
    found = records.read(store, keys.receipt(tenant, number), Receipt)
    return found.record if found is not None else None


def read_all(store: ObjectStore, tenant: str) -> list[Receipt]:
    """The receipts of all tenants that had this name, oldest first. Raises `StoreError`."""
    found = []
    for entry in store.list(keys.receipts(tenant)):
        try:
            found.append(Receipt.model_validate_json(store.get(entry.key).body))
        except ValidationError as error:
            raise StoreError(f"{entry.key} is no receipt") from error
    return sorted(found, key=lambda one: one.number)
