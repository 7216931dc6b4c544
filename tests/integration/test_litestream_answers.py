"""What the released Litestream says that is not so, each said by the real binary, and what stands
between that and a false "durable".

Further ones are elsewhere: a gap in the chain and a second sidecar in one folder
(`test_litestream.py`), an upload that hangs (there too), a sync that a kill cuts off and a bucket
without its base (`node/test_life.py`), unknown positions (`unit/backup/test_barrier.py`).
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from backup import keys
from backup.barrier import GroupBarrier, Outcome, Round
from backup.litestream import binary, config
from backup.litestream.control import ControlError, Positions
from backup.litestream.sidecar import Sidecar
from backup.ownership import Owner, OwnerRecord, OwnerState
from backup.settings import StoreSettings
from backup.store import S3Store
from restore.errors import Damaged
from restore.fetch import fetch
from restore.plan import list_epoch
from tests.faulty_store import FaultyStore, Refused, healthy

OURS = Owner(host="a", incarnation="a.1")
EPOCH = keys.epoch("t", 1)


def database(folder: Path) -> apsw.Connection:
    """A table as an engine has it: nobody but Litestream checkpoints."""
    (folder / "data").mkdir(parents=True)
    db = apsw.Connection(str(folder / "data" / "log.db"))
    db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    for sql in ("PRAGMA journal_mode=WAL", "PRAGMA wal_autocheckpoint=0", "CREATE TABLE t (a)"):
        db.execute(sql).fetchall()
    return db


async def sidecar(settings: StoreSettings, folder: Path) -> Sidecar:
    """One that streams the folder's database to epoch 1 of t, ready to be asked."""
    made = Sidecar(settings, EPOCH, folder / "data" / "log.db", folder)
    await made.start()
    await made.ready(20.0)
    return made


async def restored(settings: StoreSettings, into: Path) -> list[Any]:
    """The rows of table t as the bucket has them."""
    done = await fetch(S3Store(settings), settings, "t", 1, 0, into / "log.db")
    with closing(apsw.Connection(str(done.database), flags=apsw.SQLITE_OPEN_READONLY)) as db:
        return [row[0] for row in db.execute("SELECT a FROM t ORDER BY a")]


def record_of(owner: Owner, epoch: int) -> OwnerRecord:
    return OwnerRecord(
        tenant="t",
        lineage="l",
        epoch=epoch,
        state=OwnerState.ACTIVE,
        host=owner.host,
        incarnation=owner.incarnation,
    )


async def proved(
    sync: Callable[[float], Awaitable[Positions]], owner: Owner, record: OwnerRecord
) -> tuple[Round, list[str]]:
    """What our barrier makes of such answers, and the incidents that it told of."""
    incidents: list[str] = []

    async def read() -> OwnerRecord:
        return record

    barrier = GroupBarrier(sync, read, owner, 1, round_timeout=3.0, incident=incidents.append)
    return await barrier.prove(), incidents


def test_two_writers_of_one_replica_are_both_told_that_all_is_there(
    tmp_path: Path, store_settings: StoreSettings
) -> None:
    """Positions alone cannot tell; the record that is read after them does."""

    async def scenario() -> None:
        theirs = Owner(host="b", incarnation="b.1")
        one, other = database(tmp_path / "a"), database(tmp_path / "b")
        one.execute("INSERT INTO t VALUES ('a0')")
        other.execute("INSERT INTO t VALUES ('b0')")
        first, second = [await sidecar(store_settings, tmp_path / name) for name in ("a", "b")]
        told = set()
        for number in range(1, 6):
            one.execute("INSERT INTO t VALUES (?)", (f"a{number}",))
            other.execute("INSERT INTO t VALUES (?)", (f"b{number}",))
            for name, process in (("a", first), ("b", second)):
                seen = await process.sync(5.0)
                if 0 < seen.txid == seen.replicated:
                    told |= {f"{name}{n}" for n in range(number + 1)}
        # Each was told so of everything, and the bucket cannot have the rows of both.
        assert told == {f"{name}{n}" for name in "ab" for n in range(6)}
        record = record_of(theirs, 2)
        result, _ = await proved(first.sync, OURS, record)
        assert result.outcome is Outcome.FENCED
        # Without that reading, the same answer is taken for proof.
        careless, _ = await proved(first.sync, OURS, record_of(OURS, 1))
        assert careless.outcome is Outcome.DURABLE
        for process in (first, second):
            process.kill()
            await process.wait()
        try:
            rows = set(await restored(store_settings, tmp_path / "copy"))
        except Exception:
            rows = set()
        assert not told <= rows
        one.close()
        other.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("recovers", [True, False])
def test_a_replica_ahead_of_its_source_is_an_incident_and_then_looks_like_proof(
    tmp_path: Path, store_settings: StoreSettings, recovers: bool
) -> None:
    """With ``auto-recover`` a damaged local file makes the positions begin anew, below those of the
    bucket. Nothing is uploaded from then on, the sync answers 200, and once the positions meet they
    are equal. So our configuration cannot have that key: then each sync fails, which proves
    nothing and is seen."""

    async def scenario() -> None:
        db = database(tmp_path / "a")
        async with FaultyStore(store_settings) as proxy:
            start = _with_auto_recover if recovers else sidecar
            process = await start(proxy.settings, tmp_path / "a")
            for number in range(6):
                db.execute("INSERT INTO t VALUES (?)", (number,))
                assert (await process.sync(5.0)).replicated > 0
            local = tmp_path / "a" / "data" / ".log.db-litestream" / "ltx" / "0"
            there = max(local.glob("*.ltx"))
            proxy.policy = lambda request: Refused(503, "SlowDown")
            db.execute("INSERT INTO t VALUES (6)")
            while (newest := max(local.glob("*.ltx"))) == there:
                await asyncio.sleep(0.05)
            newest.unlink()
            proxy.policy = healthy
            outcomes, incidents = [], []
            for number in range(7, 27):
                db.execute("INSERT INTO t VALUES (?)", (number,))
                result, told = await proved(process.sync, OURS, record_of(OURS, 1))
                outcomes.append(result.outcome)
                incidents += told
                await asyncio.sleep(0.2)
                if result.outcome is Outcome.DURABLE:
                    break
            process.kill()
            await process.wait()
        rows = await restored(store_settings, tmp_path / "copy")
        if recovers:
            assert any("ahead of its source" in text for text in incidents)
            assert outcomes[-1] is Outcome.DURABLE
            assert number not in rows
        else:
            assert Outcome.DURABLE not in outcomes
        db.close()

    asyncio.run(scenario())


async def _with_auto_recover(settings: StoreSettings, folder: Path) -> Sidecar:
    """A sidecar with the key that our model does not have."""
    made = Sidecar(settings, EPOCH, folder / "data" / "log.db", folder)
    written = config.LitestreamConfig.write

    def write(self: config.LitestreamConfig, path: Path) -> None:
        written(self, path)
        told = json.loads(path.read_text())
        told["dbs"][0]["replica"]["auto-recover"] = True
        path.write_text(json.dumps(told))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config.LitestreamConfig, "write", write)
        await made.start()
    await made.ready(20.0)
    return made


def test_a_sidecar_that_could_not_upload_ends_with_0(
    tmp_path: Path, store_settings: StoreSettings
) -> None:
    """So a planned stop proves its last sync itself, before it ends the sidecar."""

    async def scenario() -> None:
        db = database(tmp_path / "a")
        async with FaultyStore(store_settings) as proxy:
            process = await sidecar(proxy.settings, tmp_path / "a")
            db.execute("INSERT INTO t VALUES (1)")
            assert (await process.sync(5.0)).replicated > 0
            proxy.policy = lambda request: Refused(503, "SlowDown")
            db.execute("INSERT INTO t VALUES (2)")
            result, _ = await proved(process.sync, OURS, record_of(OURS, 1))
            assert result.outcome in (Outcome.UNKNOWN, Outcome.TIMED_OUT)
            assert process.pid is not None
            os.kill(process.pid, 15)
            assert await asyncio.wait_for(process.wait(), 60.0) == 0
        assert await restored(store_settings, tmp_path / "copy") == [1]
        db.close()

    asyncio.run(scenario())


def test_a_file_that_was_replaced_is_streamed_as_if_it_had_not_been(
    tmp_path: Path, store_settings: StoreSettings
) -> None:
    """The sync says that all is there. What is restored is not the new file; a node never puts a
    file in another's place while its sidecar runs."""

    async def scenario() -> None:
        db = database(tmp_path / "a")
        process = await sidecar(store_settings, tmp_path / "a")
        for number in range(200):
            db.execute("INSERT INTO t VALUES (?)", (f"old {number} {'x' * 500}",))
        assert (await process.sync(5.0)).replicated > 0
        other = database(tmp_path / "b")
        for number in range(5):
            other.execute("INSERT INTO t VALUES (?)", (f"new {number}",))
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        other.close()
        (tmp_path / "b" / "data" / "log.db").rename(tmp_path / "a" / "data" / "log.db")
        replaced = apsw.Connection(str(tmp_path / "a" / "data" / "log.db"))
        replaced.execute("PRAGMA wal_autocheckpoint=0")
        told = False
        for number in range(5, 10):
            try:
                replaced.execute("INSERT INTO t VALUES (?)", (f"new {number}",))
                seen = await process.sync(5.0)
            except (ControlError, apsw.Error):
                continue
            told = told or 0 < seen.txid == seen.replicated
        assert told
        process.kill()
        await process.wait()
        wanted = {f"new {number}" for number in range(10)}
        try:
            rows = set(await restored(store_settings, tmp_path / "copy"))
        except Exception:
            rows = set()
        assert rows != wanted
        replaced.close()
        db.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("how", ["restore", "replicate"])
def test_a_damaged_replica_looks_like_none(
    tmp_path: Path, store_settings: StoreSettings, how: str
) -> None:
    """Both of Litestream's own ways to start where there may be no replica start empty on one that
    has lost its base. Ours says that it is damaged."""

    async def scenario() -> None:
        db = database(tmp_path / "a")
        process = await sidecar(store_settings, tmp_path / "a")
        for number in range(5):
            db.execute("INSERT INTO t VALUES (?)", (number,))
            await process.sync(5.0)
        process.kill()
        await process.wait()
        store = S3Store(store_settings)
        for file in list_epoch(store, "t", 1).files:
            if file.low == 1:
                store.delete(EPOCH + file.name)
        assert list_epoch(store, "t", 1).highest > 1
        fresh = tmp_path / "fresh" / "log.db"
        fresh.parent.mkdir()
        path = tmp_path / "litestream.yml"
        config.for_epoch(store_settings, EPOCH, fresh, tmp_path / "x.sock").write(path)
        given = ["-config", str(path)]
        flags = {
            "restore": ["restore", *given, "-if-replica-exists", str(fresh)],
            "replicate": ["replicate", *given, "-restore-if-db-not-exists", "-once"],
        }
        done = await asyncio.to_thread(
            subprocess.run,
            [str(binary.find()), *flags[how]],
            env=config.environment(store_settings),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert not fresh.exists()
        if how == "restore":
            assert done.returncode == 0, done.stderr
        else:
            assert "no backup found, starting fresh" in done.stderr
        with pytest.raises(Damaged):
            await fetch(store, store_settings, "t", 1, 0, tmp_path / "ours" / "log.db")
        assert not (tmp_path / "ours" / "log.db").exists()
        db.close()

    asyncio.run(scenario())
