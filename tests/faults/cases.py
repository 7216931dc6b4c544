"""The faults, each with what it does to a lab that is under load."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import apsw

from backup import keys
from backup.store import S3Store
from restore.plan import LtxFile, list_epoch
from tests.faults.lab import Lab, Verdict
from tests.faulty_store import (
    Changed,
    Fault,
    Hung,
    Late,
    Policy,
    Refused,
    Request,
    Reset,
    cut_short,
    healthy,
)

Does = Callable[[Lab, random.Random], Awaitable[Verdict]]


@dataclass(frozen=True)
class Case:
    """A fault. ``may_refuse``: the next machine may say loudly that the content is damaged; what is
    never allowed is to serve without what was acknowledged. ``long`` ones are left out of the short
    form."""

    name: str
    does: Does
    may_refuse: bool = False
    long: bool = False


def sometimes(chance: float, fault: Fault, moments: random.Random, *kinds: str) -> Policy:
    """The fault for a part of all requests, or of those of some kinds."""

    def policy(request: Request) -> Fault | None:
        hit = moments.random() < chance and (not kinds or request.operation in kinds)
        return fault if hit else None

    return policy


def store(fault: Fault, chance: float, seconds: float, *kinds: str) -> Does:
    """The store has this fault for a while, and is well again."""

    async def does(lab: Lab, moments: random.Random) -> Verdict:
        lab.proxy.policy = sometimes(chance, fault, moments, *kinds)
        await asyncio.sleep(seconds)
        lab.proxy.policy = healthy
        await lab.acknowledged(5, 120.0)
        return await lab.judge()

    return does


def lost_during(fault: Fault, chance: float, seconds: float, *kinds: str) -> Does:
    """The machine is lost while the store has the fault."""

    async def does(lab: Lab, moments: random.Random) -> Verdict:
        lab.proxy.policy = sometimes(chance, fault, moments, *kinds)
        await asyncio.sleep(seconds)
        return await lab.judge()

    return does


def signalled(process: str, number: signal.Signals, times: int, pause: float = 0.0) -> Does:
    """A process of the node gets a signal, again and again; a stopped one goes on after `pause`."""

    async def does(lab: Lab, moments: random.Random) -> Verdict:
        for _ in range(times):
            await asyncio.sleep(moments.uniform(0.1, 0.6))
            pid = (await lab.status()).pids.get(process)
            if pid is None:
                continue
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
                if number is signal.SIGSTOP:
                    await asyncio.sleep(pause)
                    os.kill(pid, signal.SIGCONT)
            await lab.acknowledged(3)
        return await lab.judge()

    return does


async def supervisor_killed(lab: Lab, moments: random.Random) -> Verdict:
    await asyncio.sleep(moments.uniform(0.0, 0.5))
    await lab.status()
    os.kill(lab.node.pid, signal.SIGKILL)
    return await lab.judge()


async def machine_lost(lab: Lab, moments: random.Random) -> Verdict:
    await asyncio.sleep(moments.uniform(0.0, 1.5))
    return await lab.judge()


async def one_upload_hangs(lab: Lab, _moments: random.Random) -> Verdict:
    """One request for good; the store is well otherwise. Only the node's own cure helps."""
    hung: list[Request] = []

    def policy(request: Request) -> Fault | None:
        if hung or request.operation != "put" or "/0000/" not in request.key:
            return None
        hung.append(request)
        return Hung()

    lab.proxy.policy = policy
    while not hung:
        await asyncio.sleep(0.05)
    await lab.acknowledged(5, 120.0)
    return await lab.judge()


async def lists_cut_short(lab: Lab, moments: random.Random) -> Verdict:
    """The first lists of the take-over show only a part, and say that this is all."""
    await asyncio.sleep(moments.uniform(0.0, 0.5))
    left = 6

    def policy(request: Request) -> Fault | None:
        nonlocal left
        if request.operation != "list" or "/epochs/" not in request.key or left == 0:
            return None
        left -= 1
        return Changed(cut_short(2))

    return await lab.judge(meanwhile=policy)


async def restore_interrupted(lab: Lab, moments: random.Random) -> Verdict:
    """The machine that takes over is lost too, at any moment of it, five times."""
    await lab.rest()
    await lab.status()
    for _ in range(5):
        await lab.lose_the_machine()
        await lab.host.start(lives_for=300.0, floor_txid=lab.proven)
        await asyncio.sleep(moments.uniform(0.0, 0.9))
    return await lab.judge()


def spoiled(spoil: Callable[[S3Store, str, LtxFile], None]) -> Does:
    """A file in the middle of the chain is not what it was, wherever the chain has it."""

    async def does(lab: Lab, moments: random.Random) -> Verdict:
        await lab.rest()
        await lab.status()
        await lab.lose_the_machine()
        await asyncio.sleep(0.5)
        bucket = S3Store(lab.near)
        plan = list_epoch(bucket, "t", 1)
        txid = moments.randint(2, plan.reachable)
        for file in plan.files:
            if file.low <= txid <= file.high:
                spoil(bucket, keys.epoch("t", 1) + file.name, file)
        return await lab.judge()

    return does


def _truncate(bucket: S3Store, key: str, _file: LtxFile) -> None:
    body = bucket.get(key).body
    bucket.put(key, body[: len(body) * 2 // 3])


def _garble(bucket: S3Store, key: str, _file: LtxFile) -> None:
    body = bytearray(bucket.get(key).body)
    third = len(body) // 3
    body[third : 2 * third] = bytes(byte ^ 0x5A for byte in body[third : 2 * third])
    bucket.put(key, bytes(body))


def _remove(bucket: S3Store, key: str, _file: LtxFile) -> None:
    bucket.delete(key)


def _duplicate(bucket: S3Store, key: str, file: LtxFile) -> None:
    """The same transactions once more, one level higher, as an interrupted compaction leaves it."""
    if file.level < 3:
        higher = key.replace(f"/{file.level:04d}/", f"/{file.level + 1:04d}/")
        bucket.put(higher, bucket.get(key).body)


async def vacuumed(lab: Lab, moments: random.Random) -> Verdict:
    """Somebody runs VACUUM and changes the schema, with the settings that a reader must have."""
    await asyncio.sleep(moments.uniform(0.0, 0.5))

    def foreign() -> None:
        db = apsw.Connection(str(lab.node.folder / "data" / "log.db"))
        db.set_busy_timeout(20_000)
        db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        db.execute("PRAGMA wal_autocheckpoint=0").fetchall()
        db.execute("CREATE TABLE foreign_one (a); INSERT INTO foreign_one VALUES (1)")
        db.execute("VACUUM")
        db.execute("ALTER TABLE foreign_one ADD COLUMN b")
        db.close()

    await asyncio.to_thread(foreign)
    await lab.acknowledged(10)
    return await lab.judge()


CASES: Final = (
    Case("the machine is lost", machine_lost),
    Case("engine: SIGKILL, five times", signalled("engine", signal.SIGKILL, 5)),
    Case("engine: SIGSTOP for 2 s", signalled("engine", signal.SIGSTOP, 1, 2.0)),
    Case("sidecar: SIGKILL, five times", signalled("sidecar", signal.SIGKILL, 5)),
    Case("sidecar: SIGSTOP for 2 s", signalled("sidecar", signal.SIGSTOP, 1, 2.0)),
    Case("sidecar: SIGSTOP for 30 s", signalled("sidecar", signal.SIGSTOP, 1, 30.0), long=True),
    Case("supervisor: SIGKILL", supervisor_killed),
    Case("supervisor: SIGSTOP for 2 s", signalled("supervisor", signal.SIGSTOP, 1, 2.0)),
    Case("store: every answer 300 ms late", store(Late(0.3), 1.0, 4.0)),
    Case("store: half of all 429", store(Refused(429, "TooManyRequests"), 0.5, 4.0)),
    Case("store: half of all 500", store(Refused(500, "InternalError"), 0.5, 4.0)),
    Case("store: all 503 SlowDown", store(Refused(503, "SlowDown"), 1.0, 4.0)),
    Case("store: credentials expired (403)", store(Refused(403, "ExpiredToken"), 1.0, 4.0)),
    Case("store: connections reset before", store(Reset(), 0.5, 4.0)),
    Case("store: writes reset after they were done", store(Reset(after=True), 0.5, 4.0, "put")),
    Case("store: gone for 1 s", store(Reset(), 1.0, 1.0)),
    Case("store: gone for 30 s", store(Reset(), 1.0, 30.0), long=True),
    Case("store: gone for 5 min", store(Reset(), 1.0, 300.0), long=True),
    Case("store: one upload hangs for good", one_upload_hangs, long=True),
    Case("store: all hangs for 15 s", store(Hung(), 1.0, 15.0), long=True),
    Case("the machine is lost while the store is gone", lost_during(Reset(), 1.0, 2.0)),
    Case(
        "the machine is lost while writes are lost",
        lost_during(Reset(after=True), 0.5, 2.0, "put"),
    ),
    Case("lists are cut short during the take-over", lists_cut_short),
    Case("the take-over is interrupted, five times", restore_interrupted),
    Case("a file of the chain is missing", spoiled(_remove), may_refuse=True),
    Case("a file of the chain is truncated", spoiled(_truncate), may_refuse=True),
    Case("a file of the chain is garbled", spoiled(_garble), may_refuse=True),
    Case("a file of the chain is there twice", spoiled(_duplicate)),
    Case("VACUUM and changes of the schema", vacuumed),
)
