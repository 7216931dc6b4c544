"""The tenants' application: one step, and rows of any size."""

from __future__ import annotations

import os

from node import activity, workflow


@activity
async def noop(number: int) -> int:
    return number


@activity(transactional=True)
def fill(megabytes: int) -> int:
    """Write so many megabytes that do not compress into the tenant's own table."""
    table = activity.transaction()
    table.execute("CREATE TABLE IF NOT EXISTS filled(n INTEGER PRIMARY KEY, bytes BLOB)")
    for _ in range(megabytes * 16):
        table.execute("INSERT INTO filled(bytes) VALUES (?)", (os.urandom(1 << 16),))
    return megabytes


@workflow
async def one() -> int:
    return await noop(1)


@workflow
async def filled(megabytes: int) -> int:
    """One megabyte a transaction."""
    for _ in range(megabytes):
        await fill(1)
    return megabytes
