"""Names of tenants become paths, so few are allowed."""

from __future__ import annotations

import pytest

from backup.keys import RESERVED_TENANTS, BadTenantName, check_tenant


@pytest.mark.parametrize("name", ["a", "acme", "acme-2", "x" * 40])
def test_allowed(name: str) -> None:
    assert check_tenant(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "A",
        "2x",
        "-a",
        "a-",
        "a/b",
        "../x",
        "a b",
        "a.b",
        "ä",
        "x" * 41,
        "a\n",
        *sorted(RESERVED_TENANTS),
    ],
)
def test_not_allowed(name: str) -> None:
    with pytest.raises(BadTenantName):
        check_tenant(name)
