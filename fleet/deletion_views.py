"""What the fleet's HTTP API shows of tenants that are deleted, and of what was removed."""

from __future__ import annotations

from pydantic import Field

from fleet.views import DeletionView, Page, View


class DeletionWanted(View):
    """The body of `POST /api/tenants/{name}/deletion`. Without `grace_seconds` the coordinator's
    `grace_days` hold; 0 removes at once. `by` and `why` are for the receipt."""

    grace_seconds: float | None = Field(default=None, ge=0, le=3650 * 86_400)
    by: str = Field(default="", max_length=200)
    why: str = Field(default="", max_length=1000)


class DeletionList(Page[DeletionView]):
    """Deletions."""


class RemovedView(View):
    """How much was removed."""

    objects: int = 0
    bytes: int = 0


class HostRemainsView(View):
    """What was removed on a host: folders that the tenant's nodes had left. `problem` says why the
    host could not be asked; it removes them by itself when it is back."""

    folders: int = 0
    bytes: int = 0
    problem: str = ""


class ReceiptView(View):
    """What a deletion has removed; `intact` says whether its hash still matches. All moments are
    UNIX seconds by the store's clock."""

    tenant: str
    number: int
    lineage: str
    epoch: int = Field(description="the last one under this name so far")
    asked_at: float
    purge_after: float
    by: str = ""
    why: str = ""
    began_at: float
    purged_at: float | None = None
    kinds: dict[str, RemovedView] = Field(default_factory=dict)
    epochs: dict[int, RemovedView] = Field(default_factory=dict)
    total: RemovedView
    removed: str = Field(description="hash over the names and sizes of all that was removed")
    keys: str = Field(description="what became of the storage keys of its sidecar")
    versions: str = Field(description="whether the bucket keeps old versions of what was removed")
    hosts: dict[str, HostRemainsView] = Field(default_factory=dict)
    late: RemovedView = Field(
        default_factory=RemovedView,
        description="what came into the prefix after it was empty, and was removed too",
    )
    content: str = Field(description="hash of all of the above; empty until it is purged")
    intact: bool


class ReceiptList(Page[ReceiptView]):
    """The receipts of all tenants that had a name."""
