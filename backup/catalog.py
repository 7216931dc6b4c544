"""A copy of every tenant's wanted state in one object, for the day on which one is lost."""

from __future__ import annotations

from pydantic import Field

from backup.ownership import TenantRecord
from backup.records import Record


class CatalogRecord(Record):
    """``coordinator/catalog.json``, written by the active coordinator when it sees a change. It is
    read only by `litefleet recover`: what counts are the tenants' own records."""

    tenants: dict[str, TenantRecord] = Field(default_factory=dict)
