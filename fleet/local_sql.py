"""Questions in SQL to a log on this machine, whether an engine has it open or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import apsw

from node.api_models_sql import SqlGuide, SqlRows
from node.api_sql import guide_of, rows_of
from node.engine import schema
from node.engine.errors import LogDamaged, LogRefused
from node.engine.sql import ask
from node.engine.sql_guide import own_tables

T = TypeVar("T")


class LocalLog:
    """A log. Its methods raise EngineError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def ask(self, statement: str, parameters: Sequence[Any], seconds: float, rows: int) -> SqlRows:
        """Read it with one SELECT."""
        found = self._on(lambda db: ask(db, statement, parameters, rows=rows, seconds=seconds))
        # Of a file nobody knows whether it is in a bucket, nor its epoch.
        return rows_of(found, {"durable": False, "bookmark": f"0:{found.sequence}"})

    def guide(self) -> SqlGuide:
        """What can be asked."""
        return guide_of(self._on(own_tables))

    def _connect(self) -> apsw.Connection:
        if self._path.with_name(self._path.name + "-wal").exists():
            # An engine may have it open.
            return schema.connect(self._path, read_only=True)
        return schema.connect_copy(self._path)

    def _on(self, work: Callable[[apsw.Connection], T]) -> T:
        schema.check_header(self._path)
        try:
            with closing(self._connect()) as db:
                version = schema.version_of(db, self._path)
                if version < schema.VERSION:
                    raise LogRefused(
                        f"{self._path} was written by an older Litefleet (log version {version})",
                        hint="Let an engine of this version open it once.",
                    )
                return work(db)
        except (apsw.CorruptError, apsw.NotADBError) as error:
            raise LogDamaged(f"{self._path} is damaged: {error}") from error
