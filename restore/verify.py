"""Is a restored file what it should be? Asked at its final path, before anything trusts it."""

from __future__ import annotations

from pathlib import Path

import apsw

from restore.errors import Damaged


def integrity(database: Path) -> None:
    """Run SQLite's full integrity check on a file that nobody else has open.

    The file is opened read-only and ``immutable``: nothing is created beside it, and nothing in it
    changes. Integrity alone is not enough (restores with rows missing have passed it), so callers
    also check the log's own invariants.

    Raises:
        Damaged: with the first findings.
    """
    for suffix in ("-wal", "-journal"):
        if database.with_name(database.name + suffix).exists():
            raise Damaged(f"{database.name}{suffix} lies beside a restored file")
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    try:
        connection = apsw.Connection(f"file:{_quoted(database)}?immutable=1", flags=flags)
        try:
            rows = [str(row[0]) for row in connection.execute("pragma integrity_check(10)")]
        finally:
            connection.close()
    except apsw.Error as error:
        raise Damaged(f"{database.name} cannot be read: {error}") from error
    if rows != ["ok"]:
        raise Damaged(f"{database.name} fails SQLite's integrity check: {'; '.join(rows[:3])}")


def _quoted(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
