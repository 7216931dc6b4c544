"""Finding what a request names."""

from __future__ import annotations

from starlette.exceptions import HTTPException

from fleet.coordinator.account import Tenant
from fleet.coordinator.coordinator import Coordinator


def tenant_of(coordinator: Coordinator, name: str) -> Tenant:
    """The tenant of this name, deleted or not. Raises HTTPException: 404 where there is none, 410
    where there was one that is gone."""
    tenant = coordinator.tenants.get(name)
    if tenant is None and name in coordinator.deletions.gone:
        raise HTTPException(410, f"{name} was deleted and is gone")
    if tenant is None:
        raise HTTPException(404, f"there is no tenant {name!r}")
    return tenant


def living(coordinator: Coordinator, name: str) -> Tenant:
    """As `tenant_of`, for what cannot be asked of a tenant that is deleted (410)."""
    tenant = tenant_of(coordinator, name)
    if tenant.wanted.deletion is not None:
        raise HTTPException(410, f"{name} is deleted")
    return tenant
