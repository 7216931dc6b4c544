"""The log's tables, and the one way to open a connection to them."""

from __future__ import annotations

import os
from pathlib import Path
from secrets import token_hex
from typing import Any, Final
from urllib.parse import quote

import apsw

from node.engine.blobs import TABLE, body_of
from node.engine.errors import LogDamaged, LogMissing, LogRefused
from node.engine.events import (
    BEGINNINGS,
    COMMANDS,
    DONE,
    GIVEN_UP,
    INTENTS,
    NOTES,
    OUTCOMES,
    STATUS_CODES,
    TIMER_STEP,
    UPDATE_ENDS,
    Kind,
)
from node.engine.labels import TABLE as LABELS
from node.engine.labels import labels_of
from node.engine.removed import TABLES as _REMOVED
from node.engine.seals import TIMES, time_of

#: "LtFl". Says that a SQLite file is a log of ours.
APPLICATION_ID: Final = 0x4C74466C
#: The schema's version, in the file's user_version. Any change of the tables raises it.
VERSION: Final = 3
BUSY_TIMEOUT_MS: Final = 10_000

_TABLES: Final = """
-- tenant, lineage, genesis_at (unix ms), secret (hex; what tokens are made with)
CREATE TABLE litefleet_meta(key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
-- Names of workflows and steps, so that events hold small numbers.
CREATE TABLE litefleet_name(id INTEGER PRIMARY KEY, name TEXT NOT NULL);
-- started, closed: sequences of the event that last started its id, and of its closing event.
-- status: 0 running, 1 completed, 2 failed, 3 cancelled, 4 terminated, 5 being removed; then
-- closed is the newest event that is left.
CREATE TABLE litefleet_execution(
  id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, workflow INTEGER NOT NULL,
  started INTEGER NOT NULL, closed INTEGER, status INTEGER NOT NULL);
CREATE INDEX litefleet_open ON litefleet_execution(id) WHERE closed IS NULL;
-- back: how far before it the same execution's previous event is, 0 for the first.
CREATE TABLE litefleet_event(
  sequence INTEGER PRIMARY KEY, execution INTEGER NOT NULL, back INTEGER NOT NULL,
  kind INTEGER NOT NULL, name INTEGER NOT NULL, occurrence INTEGER NOT NULL, payload,
  at INTEGER, chain BLOB);
-- One row a commit of more than two events, by its last one; a smaller one has the same in its
-- last event. at: unix ms. chain: see chain.py.
CREATE TABLE litefleet_commit(
  sequence INTEGER PRIMARY KEY, at INTEGER NOT NULL, chain BLOB NOT NULL);
"""
_FAILURES = ", ".join(
    str(kind.value) for kind in sorted({Kind.FAILED, *(OUTCOMES - DONE - {Kind.TIMER_FIRED})})
)
# What is looked for and rare: only an event or an execution that is in one of these pays for it.
# The turns that queues gave; what failed for good; executions that neither run nor completed.
_FOUND: Final = f"""
CREATE INDEX litefleet_turn ON litefleet_event(kind) WHERE kind = {Kind.DEQUEUED.value};
CREATE INDEX litefleet_failure ON litefleet_event(execution) WHERE kind IN ({_FAILURES});
CREATE INDEX litefleet_unhappy ON litefleet_execution(status) WHERE status > 1;
"""
_LIVES: Final = """
-- One row for each time an engine opened the log: the newest event then, when (unix ms), and
-- whether it closed the log in good order (1) or may have crashed (0).
CREATE TABLE litefleet_life(
  id INTEGER PRIMARY KEY, sequence INTEGER NOT NULL, at INTEGER NOT NULL, ended INTEGER NOT NULL);
"""

#: What version 3 changes in the tables of the older ones.
_SEALS: Final = """
ALTER TABLE litefleet_event ADD COLUMN at INTEGER;
ALTER TABLE litefleet_event ADD COLUMN chain BLOB;
"""


def _time(milliseconds: str) -> str:
    return f"strftime('%Y-%m-%dT%H:%M:%fZ', {milliseconds} / 1000.0, 'unixepoch')"


def _at(sequence: str) -> str:
    return _time(time_of(sequence))


_KINDS = " ".join(f"WHEN {kind.value} THEN '{kind.name.lower()}'" for kind in Kind)
_STEPS = ", ".join(
    str(kind.value)
    for kind in sorted(
        (COMMANDS | OUTCOMES | NOTES) - UPDATE_ENDS - {Kind.CHUNK, Kind.STEP_VERSION}
    )
)
_STATUSES = " ".join(f"WHEN {code} THEN '{status}'" for code, status in STATUS_CODES.items())
_DONE, _FAILED, _GIVEN_UP, _INTENTS, _ENDED, _BEGINNINGS = (
    ", ".join(str(kind.value) for kind in sorted(kinds))
    for kinds in (
        DONE,
        OUTCOMES - DONE - {Kind.TIMER_FIRED},
        GIVEN_UP,
        INTENTS,
        OUTCOMES | GIVEN_UP,
        BEGINNINGS,
    )
)
_VIEWS: Final = f"""
CREATE VIEW executions AS
  SELECT x.key AS id, n.name AS workflow,
    CASE x.status {_STATUSES} END AS status,
    CASE o.kind WHEN {Kind.ORIGIN.value} THEN json_extract(o.payload, '$.version') END AS version,
    {_at("x.started")} AS started_at, {_at("x.closed")} AS closed_at,
    CASE s.kind WHEN {Kind.STARTED.value} THEN {body_of("s.payload")}
      ELSE json_extract({body_of("s.payload")}, '$.input') END AS input,
    coalesce({body_of("e.payload")}, CASE WHEN x.status = 1 THEN 'null' END) AS outcome,
    {labels_of("x.id")} AS labels,
    CASE s.kind WHEN {Kind.FORKED.value} THEN
      json_extract({body_of("s.payload")}, '$.from.id') END AS forked_from
  FROM litefleet_execution x JOIN litefleet_name n ON n.id = x.workflow
  JOIN litefleet_event s ON s.sequence = x.started
  LEFT JOIN litefleet_event o ON o.sequence = x.started + 1 AND o.execution = x.id
  LEFT JOIN litefleet_event e ON e.sequence = x.closed WHERE x.status < 5;
CREATE VIEW timeline AS
  SELECT e.sequence, {_at("e.sequence")} AS at, x.key AS execution,
    CASE e.kind {_KINDS} END AS event, n.name AS step, e.occurrence,
    {body_of("e.payload")} AS payload
  FROM litefleet_event e JOIN litefleet_execution x ON x.id = e.execution
  JOIN litefleet_name n ON n.id = e.name;
CREATE VIEW steps AS
  SELECT x.key AS execution, n.name AS step, g.occurrence,
    CASE WHEN g.reused THEN 'reused' WHEN g.done THEN 'completed' WHEN g.failed THEN 'failed'
      WHEN g.fired THEN 'fired' WHEN g.cancelled THEN 'cancelled'
      WHEN x.status > 0 THEN 'abandoned' ELSE 'running' END AS status,
    g.failures, {_at("g.first")} AS called_at,
    CASE WHEN g.last > g.first THEN {_at("g.last")} END AS last_event_at,
    {body_of("i.payload")} AS input,
    CASE WHEN g.last > g.first THEN {body_of("o.payload")} END AS outcome
  FROM (SELECT execution, name, occurrence, min(sequence) AS first, max(sequence) AS last,
      max(kind = {Kind.STEP_REUSED.value}) AS reused,
      max(kind IN ({_DONE})) AS done, max(kind IN ({_FAILED})) AS failed,
      max(kind = {Kind.TIMER_FIRED.value}) AS fired,
      max(kind IN ({_GIVEN_UP})) AS cancelled,
      sum(kind = {Kind.STEP_RETRY.value}) AS failures
    FROM litefleet_event WHERE kind IN ({_STEPS})
    GROUP BY execution, name, occurrence) g
  JOIN litefleet_execution x ON x.id = g.execution JOIN litefleet_name n ON n.id = g.name
  JOIN litefleet_event i ON i.sequence = g.first JOIN litefleet_event o ON o.sequence = g.last;
-- What failed for good, an execution (step is NULL) or a step of one; the latter may have been
-- tried again since.
CREATE VIEW failures AS
  SELECT x.key AS execution, CASE WHEN e.kind <> {Kind.FAILED.value} THEN n.name END AS step,
    CASE WHEN e.kind <> {Kind.FAILED.value} THEN e.occurrence END AS occurrence,
    {_at("e.sequence")} AS at, json_extract(e.said, '$.type') AS type,
    json_extract(e.said, '$.message') AS message,
    json_extract(e.said, '$.attempts') AS attempts, e.sequence
  FROM (SELECT *, {body_of("payload")} AS said FROM litefleet_event
    WHERE kind IN ({_FAILURES})) e
  JOIN litefleet_execution x ON x.id = e.execution
  JOIN litefleet_name n ON n.id = e.name;
-- The steps that open executions wait for. One without such a step (waits_for is 'message')
-- waits for a message, or runs.
CREATE VIEW waiting AS
  WITH open AS MATERIALIZED (
    SELECT execution, max(sequence) AS last,
      max(CASE WHEN kind IN ({_BEGINNINGS}) THEN sequence END) AS first
    FROM litefleet_event WHERE execution IN (SELECT id FROM litefleet_execution
      WHERE closed IS NULL) GROUP BY execution),
  void AS MATERIALIZED (
    SELECT execution, payload AS cut, sequence FROM litefleet_event
    WHERE kind = {Kind.REOPENED.value}),
  called AS (
    SELECT e.execution, max(CASE WHEN e.kind IN ({_INTENTS}) THEN e.sequence END) AS sequence
    FROM litefleet_event e CROSS JOIN open o ON o.execution = e.execution
    WHERE e.sequence > o.first AND e.kind IN ({_INTENTS}, {_ENDED})
      AND NOT EXISTS (SELECT 1 FROM void v WHERE v.execution = e.execution
        AND e.sequence >= v.cut AND e.sequence < v.sequence)
    GROUP BY e.execution, e.name, e.occurrence HAVING max(e.kind IN ({_ENDED})) = 0)
  SELECT x.key AS execution, w.name AS workflow,
    CASE i.kind WHEN {Kind.STEP.value} THEN 'activity' WHEN {Kind.TIMER.value} THEN 'timer'
      WHEN {Kind.CHILD.value} THEN 'child' WHEN {Kind.EXTERNAL.value} THEN 'external'
      ELSE 'message' END AS waits_for,
    CASE WHEN i.kind <> {Kind.TIMER.value} THEN n.name END AS step, i.occurrence,
    {_at("coalesce(i.sequence, o.last)")} AS since,
    CASE i.kind WHEN {Kind.TIMER.value} THEN {_time("i.payload")} END AS until
  FROM open o JOIN litefleet_execution x ON x.id = o.execution
  JOIN litefleet_name w ON w.id = x.workflow
  LEFT JOIN called c ON c.execution = o.execution
  LEFT JOIN litefleet_event i ON i.sequence = c.sequence
  LEFT JOIN litefleet_name n ON n.id = i.name;
"""
#: Names that tenants' tables cannot have.
OWN_PREFIX: Final = "litefleet_"
OWN_VIEWS: Final = frozenset({"executions", "failures", "steps", "timeline", "waiting"})


_SECRET = "INSERT INTO litefleet_meta VALUES ('secret', ?)"


def create(path: Path, *, tenant: str, lineage: str, genesis_at: int, chain: bytes) -> None:
    """Make an empty log at `path`, complete or not at all."""
    # Made beside and renamed, so that a crash leaves no half-made log; made before the switch
    # to WAL, so that the file itself says what it is before anyone has checkpointed it.
    fresh = path.with_name(path.name + ".new")
    for leftover in (fresh, fresh.with_name(fresh.name + "-journal")):
        leftover.unlink(missing_ok=True)
    db = apsw.Connection(str(fresh))
    try:
        db.execute("PRAGMA synchronous=FULL")
        with db:
            db.execute(_TABLES + _FOUND + _LIVES + TABLE + LABELS + _REMOVED + TIMES + _VIEWS)
            db.execute(
                "INSERT INTO litefleet_meta VALUES"
                " ('tenant', ?), ('lineage', ?), ('genesis_at', ?)",
                (tenant, lineage, genesis_at),
            )
            db.execute(_SECRET, (token_hex(32),))
            db.execute("INSERT INTO litefleet_name VALUES (1, ?)", (TIMER_STEP,))
            db.execute("INSERT INTO litefleet_commit VALUES (0, ?, ?)", (genesis_at, chain))
            db.execute(f"PRAGMA application_id={APPLICATION_ID}")
            db.execute(f"PRAGMA user_version={VERSION}")
        _configure(db)
    finally:
        db.close()
    fresh.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def version_of(db: apsw.Connection, path: Path) -> int:
    """The version of an open log. The header of the file alone can be older than its WAL.

    Raises LogRefused for a newer one.
    """
    version = int(db.pragma("user_version"))
    _refuse_newer(path, version)
    return version


def migrate(path: Path) -> None:
    """Bring a log of an older version to this one: whole or not at all.

    Version 2 has more kinds of events, which its views know, a table of the engine's lives, and
    a secret for tokens. Version 3 has seals in events (see seals.py), and says what was removed
    (see removed.py). No event or commit that is there is changed, so the hash chain goes on.
    """
    db = connect(path)
    try:
        db.execute("BEGIN IMMEDIATE")
        try:
            # Somebody else may have done it while this one waited for the lock.
            version = version_of(db, path)
            if version < VERSION:
                for view in sorted(OWN_VIEWS):
                    db.execute(f"DROP VIEW IF EXISTS {view}")
                if version < 2:
                    db.execute(_LIVES)
                    db.execute(_SECRET, (token_hex(32),))
                db.execute(_SEALS + _FOUND + TABLE + LABELS + _REMOVED + TIMES + _VIEWS)
                db.execute(f"PRAGMA user_version={VERSION}")
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
    finally:
        db.close()


def _refuse_newer(path: Path, version: int) -> None:
    if version > VERSION:
        raise LogRefused(
            f"{path} was written by a newer Litefleet (log version {version}; this one reads up"
            f" to {VERSION})",
            hint="Upgrade Litefleet on this host. Nothing was changed in the file.",
        )


def check_header(path: Path) -> None:
    """Look at the file's first bytes only. Raises LogMissing, LogRefused, LogDamaged."""
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        raise LogMissing(f"there is no log at {path}") from None
    except OSError as error:
        raise LogRefused(f"{path} cannot be read: {error}") from error
    if not header:
        raise LogMissing(f"the log at {path} is empty")
    if len(header) < 100 or not header.startswith(b"SQLite format 3\x00"):
        raise LogRefused(f"{path} is not a SQLite database")
    application = int.from_bytes(header[68:72], "big")
    version = int.from_bytes(header[60:64], "big")
    if application != APPLICATION_ID:
        raise LogRefused(
            f"{path} is a SQLite database, but not a log of Litefleet's"
            f" (application_id {application:#x})"
        )
    _refuse_newer(path, version)
    if version < 1:
        raise LogDamaged(f"{path} has no log version")


def connect(path: Path, *, read_only: bool = False) -> apsw.Connection:
    """A connection with every setting that replication depends on, each read back.

    Raises LogRefused when one is not in force, LogDamaged when the file is no database.
    """
    flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE
    try:
        db = apsw.Connection(str(path), flags=flags)
    except apsw.CantOpenError as error:
        raise LogRefused(f"{path} cannot be opened: {error}") from error
    try:
        _configure(db)
    except (apsw.CorruptError, apsw.NotADBError) as error:
        db.close()
        raise LogDamaged(f"{path} is damaged: {error}") from error
    except BaseException:
        db.close()
        raise
    return db


def connect_copy(path: Path) -> apsw.Connection:
    """A connection to a closed copy that leaves nothing beside it."""
    wal = path.with_name(path.name + "-wal")
    if wal.exists() and wal.stat().st_size:
        return connect(path, read_only=True)
    uri = f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"
    return apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)


def fetch_all(db: apsw.Connection, sql: str, values: Any = ()) -> list[Any]:
    """The rows of a statement, always to the end: one left open holds a read transaction, and the
    WAL grows."""
    return db.execute(sql, values).fetchall()


def _configure(db: apsw.Connection) -> None:
    # Litestream must be the only one who checkpoints: a checkpoint of ours can restart the WAL
    # before it has read it, and the replica is corrupt without a word. Closing the last
    # connection checkpoints too, unless it is told not to.
    db.set_busy_timeout(BUSY_TIMEOUT_MS)
    _require("no checkpoint on close", db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1), 1)
    db.execute("PRAGMA wal_autocheckpoint=0").fetchall()
    _require("wal_autocheckpoint", db.pragma("wal_autocheckpoint"), 0)
    if not db.readonly("main"):
        db.execute("PRAGMA journal_mode=WAL").fetchall()
    _require("journal_mode", db.pragma("journal_mode"), "wal")
    db.execute("PRAGMA synchronous=FULL").fetchall()
    _require("synchronous", db.pragma("synchronous"), 2)
    db.execute("PRAGMA trusted_schema=OFF").fetchall()


def _require(setting: str, value: object, wanted: object) -> None:
    if value != wanted:
        raise LogRefused(
            f"SQLite's {setting} is {value!r} and must be {wanted!r} for the replica to be sound",
            hint="Put the database on a local file system that supports SQLite's WAL mode.",
        )
