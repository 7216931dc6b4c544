"""The names of things in the bucket (docs/architecture.md, "The bucket is the truth").

All keys are relative to the fleet's prefix, which the object store adds.
"""

from __future__ import annotations

import re

_TENANT = re.compile(r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?")
RESERVED_TENANTS = frozenset(
    {"api", "healthz", "metrics", "docs", "redoc", "coordinator", "openapi"}
)
"""First path segments that the gateway answers itself, so no tenant may bear them."""


class BadTenantName(ValueError):
    """A tenant's name is not allowed; the message says what is."""


def check_tenant(name: str) -> str:
    """Return ``name`` if a tenant may be called that.

    The name becomes a path segment of URLs, keys and folders, hence the narrow alphabet.

    Raises:
        BadTenantName: with the rule that was broken.
    """
    if name in RESERVED_TENANTS:
        raise BadTenantName(f"tenant name {name!r} is reserved; choose another one")
    if not _TENANT.fullmatch(name):
        raise BadTenantName(
            f"tenant name {name!r} is not allowed: use 1 to 40 of a-z, 0-9 and '-', "
            "beginning with a letter and not ending with '-'"
        )
    return name


def lease(host: str) -> str:
    """The host's lease record."""
    return f"hosts/{host}/lease.json"


def host(host: str) -> str:
    """What is wanted of the host."""
    return f"hosts/{host}/host.json"


HOSTS = "hosts/"
CATALOG = "catalog.json"
"""The copy of the catalog, in the place of the fleet of coordinators."""
TENANTS = "tenants/"


def wanted(tenant: str) -> str:
    """The tenant's wanted state."""
    return f"tenants/{tenant}/tenant.json"


def owner(tenant: str) -> str:
    """The tenant's ownership record."""
    return f"tenants/{tenant}/owner.json"


def everything(tenant: str) -> str:
    """The prefix of all that is a tenant's, and, by the slash at its end, of no other's."""
    return f"tenants/{check_tenant(tenant)}/"


def receipts(tenant: str) -> str:
    """The prefix of what is kept of the tenants of this name that were deleted."""
    return f"deleted/{check_tenant(tenant)}/"


def receipt(tenant: str, number: int) -> str:
    """What a deletion has removed."""
    return f"{receipts(tenant)}{number:08d}.json"


def epochs(tenant: str) -> str:
    """The prefix under which all of the tenant's replicas lie."""
    return f"tenants/{tenant}/epochs/"


def epoch(tenant: str, number: int) -> str:
    """The prefix of one epoch's Litestream replica; written by one owner only, never reused."""
    return f"tenants/{tenant}/epochs/{number:08d}/"


def lineages(tenant: str) -> str:
    """The prefix of what is known of the tenant's epochs."""
    return f"tenants/{tenant}/lineage/"


def lineage(tenant: str, number: int) -> str:
    """What is known of an epoch that became active: where it came from."""
    return f"tenants/{tenant}/lineage/{number:08d}.json"


def drills(tenant: str) -> str:
    """The tenant's drills: when its backup was last restored, and what came of it."""
    return f"tenants/{tenant}/drills.json"


COPY_RECORD = ".json"
"""What the key of a copy's record ends with."""


SEALED = ".sealed"
"""What the key of a copy that is encrypted ends with, after that of a plain one."""


def copies(tenant: str) -> str:
    """The prefix of the tenant's independent copies."""
    return f"tenants/{tenant}/copies/"


def copy(tenant: str, name: str) -> str:
    """An independent copy of the tenant's database."""
    return f"{copies(tenant)}{name}.db.gz"


def copy_record(tenant: str, name: str) -> str:
    """What that copy must be."""
    return f"{copies(tenant)}{name}{COPY_RECORD}"
