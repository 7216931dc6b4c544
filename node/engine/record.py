"""The log's own word for what was removed from it: one execution of the engine's own."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import apsw

from node.engine.beginning import compact
from node.engine.blobs import Kept
from node.engine.events import Kind
from node.engine.removed import SIZE
from node.engine.retention import RECORD
from node.engine.writer import Entry


@dataclass(frozen=True, slots=True)
class Record:
    """What was removed from a log so far: the input of the one execution that says so."""

    executions: int = 0
    histories: int = 0
    events: int = 0
    sum: str = "0" * (2 * SIZE)
    """The fingerprint of the removed sequences, in hex."""
    held: str = "0" * (2 * SIZE)
    """That of the row numbers of the executions that are held."""
    going: tuple[int, ...] = ()
    """Row numbers of executions of which a part is removed."""

    @staticmethod
    def read(payload: Kept) -> Record:
        """Raises ValueError, KeyError, TypeError."""
        body = json.loads(str(payload))["record"]
        return Record(**{**body, "going": tuple(body["going"])})

    def payload(self) -> str:
        """The input that it is."""
        return compact({"record": asdict(self)})

    def entries(self, rowid: int) -> list[Entry]:
        """The execution that says it, and does nothing else."""
        return [
            Entry(rowid, RECORD, Kind.STARTED, RECORD, 1, self.payload()),
            Entry(rowid, RECORD, Kind.COMPLETED, RECORD, 1, None),
        ]


def record_of(db: apsw.Connection) -> Record:
    """The newest record of this log."""
    found: list[Any] = db.execute(
        "SELECT e.payload FROM litefleet_execution x JOIN litefleet_event e"
        " ON e.sequence = x.started WHERE x.key = ?",
        (RECORD,),
    ).fetchall()
    return Record.read(found[0][0]) if found else Record()
