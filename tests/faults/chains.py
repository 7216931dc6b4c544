"""What happens to the files in the bucket, and chains that are very long or very large."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import closing
from typing import Final

import apsw

from backup import keys
from backup.litestream.control import Control
from backup.store import S3Store
from restore.plan import LtxFile, list_epoch
from tests.faults.lab import Lab, Verdict

Spoil = Callable[[S3Store, str, LtxFile], None]
OBJECTS: Final = 10_000
GIGABYTE: Final = 1 << 30
BATCH: Final = 16 << 20
"""Bytes of a commit of those that make a database large."""


async def spoiled(lab: Lab, moments: random.Random, spoil: Spoil) -> Verdict:
    """A file in the middle of the chain is not what it was, wherever the chain has it."""
    await asyncio.sleep(moments.uniform(0.5, 1.5))
    await lab.lose_the_machine()
    await lab.rest()
    bucket = S3Store(lab.near)
    plan = await asyncio.to_thread(list_epoch, bucket, "t", 1)
    lab.spoiled_at = txid = moments.randint(2, plan.reachable)
    for file in plan.files:
        if file.low <= txid <= file.high:
            # What a longer file holds before that position is gone with it.
            lab.spoiled_at = min(lab.spoiled_at, max(file.low, 2))
            await asyncio.to_thread(spoil, bucket, keys.epoch("t", 1) + file.name, file)
    return await lab.judge()


def truncate(bucket: S3Store, key: str, _file: LtxFile) -> None:
    body = bucket.get(key).body
    bucket.put(key, body[: len(body) * 2 // 3])


def garble(bucket: S3Store, key: str, _file: LtxFile) -> None:
    body = bytearray(bucket.get(key).body)
    third = len(body) // 3
    body[third : 2 * third] = bytes(byte ^ 0x5A for byte in body[third : 2 * third])
    bucket.put(key, bytes(body))


def flip(bucket: S3Store, key: str, _file: LtxFile) -> None:
    """One bit in its middle."""
    body = bytearray(bucket.get(key).body)
    body[len(body) // 2] ^= 0x10
    bucket.put(key, bytes(body))


def remove(bucket: S3Store, key: str, _file: LtxFile) -> None:
    bucket.delete(key)


def duplicate(bucket: S3Store, key: str, file: LtxFile) -> None:
    """The same transactions once more at another level, as a compaction that was cut off leaves
    them: one higher, or one lower where there is none above."""
    level = {3: 2, 9: 3}.get(file.level, file.level + 1)
    head, name = key.rsplit("/", 2)[0], key.rsplit("/", 1)[1]
    bucket.put(f"{head}/{level:04d}/{name}", bucket.get(key).body)


def beside(lab: Lab) -> apsw.Connection:
    """A connection to the live log as a foreign program must have it: it never checkpoints."""
    db = apsw.Connection(str(lab.log))
    db.set_busy_timeout(30_000)
    db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    db.execute("PRAGMA wal_autocheckpoint=0").fetchall()
    return db


async def vacuumed(lab: Lab, moments: random.Random) -> Verdict:
    """Somebody runs VACUUM and changes the schema, with the settings that a reader must have."""
    await asyncio.sleep(moments.uniform(0.3, 1.0))

    def foreign() -> None:
        with closing(beside(lab)) as db:
            db.execute("CREATE TABLE foreign_one (a); INSERT INTO foreign_one VALUES (1)")
            db.execute("VACUUM")
            db.execute("ALTER TABLE foreign_one ADD COLUMN b")
            db.execute("CREATE INDEX foreign_index ON foreign_one (b)")
            db.execute("DROP INDEX foreign_index")

    for _ in range(2):
        await asyncio.to_thread(foreign_once, foreign, lab)
        await lab.acknowledged(5)
    return await lab.judge()


def foreign_once(work: Callable[[], None], lab: Lab) -> None:
    """What `work` does, on a log that does not have its table."""
    with closing(beside(lab)) as db:
        db.execute("DROP TABLE IF EXISTS foreign_one")
    work()


async def checkpointed(lab: Lab, moments: random.Random) -> Verdict:
    """A foreign writer with SQLite's own settings: it checkpoints, and tries to empty the WAL."""
    await asyncio.sleep(moments.uniform(0.3, 1.0))

    def foreign(number: int) -> None:
        with closing(apsw.Connection(str(lab.log))) as db:
            db.set_busy_timeout(5_000)
            db.execute("CREATE TABLE IF NOT EXISTS foreign_one (a)")
            db.execute("INSERT INTO foreign_one VALUES (?)", (number,))
            mode = ("PASSIVE", "FULL", "RESTART", "TRUNCATE")[number % 4]
            db.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()

    for number in range(20):
        try:
            await asyncio.to_thread(foreign, number)
        except apsw.BusyError:
            continue
        await asyncio.sleep(moments.uniform(0.05, 0.2))
    await lab.acknowledged(5)
    return await lab.judge()


async def many_objects(lab: Lab, _moments: random.Random) -> Verdict:
    """A chain of ten thousand files of which none was ever merged: so many syncs, and whatever
    compaction has made of them is taken away."""
    await lab.rest()
    control = Control(lab.node.folder / "litestream.sock", lab.log)
    with closing(beside(lab)) as db:
        db.execute("CREATE TABLE IF NOT EXISTS foreign_one (a)")
        txid = 0
        while txid < OBJECTS:
            db.execute("INSERT INTO foreign_one VALUES (?)", (txid,))
            txid = (await control.sync(wait=True, timeout=30.0)).replicated
    await control.close()
    lab.load()
    await lab.acknowledged(10)
    await lab.lose_the_machine()
    await lab.rest()
    await asyncio.to_thread(_unmerge, S3Store(lab.near))
    return await lab.judge()


def _unmerge(bucket: S3Store) -> None:
    plan = list_epoch(bucket, "t", 1)
    for file in plan.files:
        if file.level > 0:
            bucket.delete(keys.epoch("t", 1) + file.name)
    left = list_epoch(bucket, "t", 1)
    assert left.reachable == plan.reachable, "level 0 was thinned out meanwhile: too slow a machine"
    assert len(left.files) >= OBJECTS


async def large(lab: Lab, _moments: random.Random) -> Verdict:
    """A gigabyte that does not compress, in the tenant's own table."""

    def fill() -> None:
        with closing(beside(lab)) as db:
            db.execute("CREATE TABLE IF NOT EXISTS foreign_one (a)")
            for _ in range(GIGABYTE // BATCH):
                db.execute("BEGIN IMMEDIATE")
                for _ in range(BATCH >> 20):
                    db.execute("INSERT INTO foreign_one VALUES (randomblob(1048576))")
                db.execute("COMMIT")

    await asyncio.to_thread(fill)
    await lab.acknowledged(10, 300.0)
    return await lab.judge()
