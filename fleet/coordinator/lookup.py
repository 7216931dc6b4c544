"""Finding what a request names."""

from __future__ import annotations

from starlette.exceptions import HTTPException

from fleet.coordinator.account import Tenant
from fleet.coordinator.coordinator import Coordinator


def tenant_of(coordinator: Coordinator, name: str) -> Tenant:
    """The tenant of this name. Raises HTTPException (404) where there is none."""
    tenant = coordinator.tenants.get(name)
    if tenant is None:
        raise HTTPException(404, f"there is no tenant {name!r}")
    return tenant
