"""A node on real parts: taken over, proven, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import apsw
import httpx
import psutil
import pytest

from backup import keys, ownership, records
from backup.guards import Guard, GuardSettings
from backup.lease import boottime
from backup.ownership import Owner, OwnerRecord, OwnerState
from backup.store import S3Store
from node.engine.inspection import LogSummary, committed_at, inspect_log
from node.order import NodeState, NodeStatus, Tail
from restore.moment import Now, Restored, restore
from restore.plan import list_epoch
from tests.faulty_store import FaultyStore, Hung

from .conftest import FaultyHost, Scenario, TestHost, TestNode, all_gone

OnHost = Callable[[Scenario], None]

LIFE = 10.0
"""Seconds of authority for a node that shall outlive it: enough to start on a busy machine."""


def kept(database: Path) -> list[int]:
    """The tenant's own table in a closed copy of its log."""
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return [int(row[0]) for row in connection.execute("SELECT number FROM kept ORDER BY 1")]
    finally:
        connection.close()


async def newest(host: TestHost) -> Restored[LogSummary]:
    """What the bucket holds of the tenant, verified."""
    return await restore(host.settings, "t", Now(), host.data / "copy", inspect_log, committed_at)


def test_a_lost_node_goes_on_elsewhere_from_its_last_step(on_host: OnHost) -> None:
    async def scenario(host: TestHost) -> None:
        first = await host.start(durability="before_effects")
        status = await first.serving()
        assert (status.epoch, status.parent_epoch) == (1, None)
        answer = await first.begin("job", steps=20, pause=0.05)
        assert (answer.status_code, answer.json()["durable"]) == (201, True)
        while len(host.effects()) < 5:
            await asyncio.sleep(0.02)
        first.kill_all(await first.status())
        done = len(host.effects())
        assert 5 <= done < 20

        second = await host.start(durability="before_effects")
        status = await second.serving()
        assert (status.epoch, status.parent_epoch) == (2, 1)
        assert await second.result("job") == 20
        # Every effect once, but for the one that was under way, with the same key.
        assert {line.split()[1] for line in host.effects()} == {str(n) for n in range(20)}
        assert len({line.split()[2] for line in host.effects()}) == 20
        assert len(host.effects()) <= 21
        owner = host.owner()
        assert owner is not None
        assert (owner.record.epoch, owner.record.state) == (2, OwnerState.ACTIVE)

        await second.remote.drain()
        assert (await second.ended()).state is NodeState.RELEASED
        released = host.owner()
        assert released is not None
        reached = list_epoch(host.store, "t", 2).reachable
        assert (released.record.state, released.record.floor_txid) == (
            OwnerState.RELEASED,
            reached,
        )
        latest = await newest(host)
        assert latest.checked.executions["completed"] == 1
        assert kept(latest.fetched.database) == list(range(20))

    on_host(scenario)


def test_the_engine_holds_no_credential(on_host: OnHost) -> None:
    """Not in its environment, not in a file that it has open, not anywhere in its memory."""

    async def scenario(host: TestHost) -> None:
        node = await host.start(durability="before_effects")
        await node.serving()
        assert (await node.begin("job", steps=2)).json()["durable"]
        await node.result("job")
        pids = (await node.status()).pids
        secret = host.settings.credentials.secret_access_key.get_secret_value().encode()
        access = host.settings.credentials.access_key_id.encode()
        for process in ("engine", "cradle"):
            pid = pids[process]
            assert not holds(pid, secret), process
            assert not holds(pid, access), process
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"AWS_" not in environment
            assert b"LITESTREAM" not in environment
        # The checker can find what it looks for: the supervisor does hold them.
        assert holds(pids["supervisor"], secret)
        for link in Path(f"/proc/{pids['engine']}/fd").iterdir():
            target = os.readlink(link)
            assert not target.endswith((".yml", ".json")), target
            if "socket" not in target and "pipe" not in target and target.startswith("/"):
                assert target.startswith((str(node.folder), str(node.sockets), "/dev/"))

    on_host(scenario)


def holds(pid: int, needle: bytes) -> bool:
    """Whether a process has ``needle`` anywhere in its writable memory."""
    with open(f"/proc/{pid}/mem", "rb") as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights = line.split()[:2]
            if "rw" not in rights:
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            try:
                memory.seek(start)
                if needle in memory.read(end - start):
                    return True
            except (OSError, ValueError, OverflowError):
                continue
    return False


async def acknowledged(node: TestNode, id: str) -> bool:
    """Whether a durable start is answered as one. A node that ends meanwhile answers nothing."""
    try:
        answer = await node.begin(id, steps=1)
    except httpx.HTTPError:
        return False
    if answer.status_code == 503:
        assert answer.json()["outcome"] == "unknown"
        return False
    return bool(answer.json()["durable"])


def supersede(host: TestHost) -> Owner:
    """Claim the tenant for somebody else, as a take-over does in its first step."""
    now = host.owner()
    assert now is not None
    other = Owner(host="other", incarnation="x.y")
    record = ownership.claim(now.record, "t", other, authority_ended=True)
    records.swap(host.store, keys.owner("t"), record, now.etag)
    return other


def test_a_superseded_node_acknowledges_nothing_and_ends(on_host: OnHost) -> None:
    async def scenario(host: TestHost) -> None:
        node = await host.start()
        await node.serving()
        pids = (await node.status()).pids
        supersede(host)
        before = host.owner()
        assert not await acknowledged(node, "late")
        ended = await node.ended()
        assert ended.state is NodeState.FENCED
        assert "other at epoch 2" in ended.detail
        await all_gone([pids["engine"], pids["sidecar"]])
        after = host.owner()
        assert before is not None
        assert after == before
        assert list_epoch(host.store, "t", 2).empty

    on_host(scenario)


def test_a_node_ends_by_itself_when_nobody_extends_it(on_host: OnHost) -> None:
    async def scenario(host: TestHost) -> None:
        node = await host.start(lives_for=LIFE)
        await node.serving()
        pids = (await node.status()).pids
        ended = await node.ended()
        assert boottime() >= node.order.deadline
        assert ended.state is NodeState.FENCED
        await all_gone([pids["engine"], pids["sidecar"]])

    on_host(scenario)


def test_an_extended_node_lives_and_a_late_extension_revives_nothing(on_host: OnHost) -> None:
    async def scenario(host: TestHost) -> None:
        node = await host.start(lives_for=LIFE)
        await node.serving()
        await node.remote.extend(node.order.deadline + 3.0)
        await asyncio.sleep(max(0.0, node.order.deadline - boottime()) + 0.3)
        assert (await node.status()).state is NodeState.ACTIVE
        ended = await node.ended()
        await node.remote.extend(boottime() + 60.0)
        assert ended.state is NodeState.FENCED
        assert (await node.status()).state is NodeState.FENCED

    on_host(scenario)


def test_a_frozen_supervisor_leaves_an_engine_that_may_do_nothing(on_host: OnHost) -> None:
    """The worst hang: the watchdog itself is stopped. The engine sees the deadline on its own."""

    async def scenario(host: TestHost) -> None:
        node = await host.start(lives_for=LIFE)
        await node.serving()
        await node.begin("job", steps=1000, pause=0.05)
        pids = (await node.status()).pids
        os.kill(pids["supervisor"], signal.SIGSTOP)
        try:
            await asyncio.sleep(max(0.0, node.order.deadline - boottime()) + 0.2)
            seen = len(host.effects())
            await asyncio.sleep(0.5)
            assert len(host.effects()) == seen
            assert not await acknowledged(node, "late")
        finally:
            os.kill(pids["supervisor"], signal.SIGCONT)
        await all_gone([pids["engine"], pids["sidecar"]])

    on_host(scenario)


def test_a_zombie_wakes_up_dead(on_host: OnHost) -> None:
    """Everything is frozen past the deadline and taken over; then all of it wakes up at once."""

    async def scenario(host: TestHost) -> None:
        zombie = await host.start(lives_for=LIFE)
        await zombie.serving()
        await zombie.begin("job", steps=200, pause=0.02)
        while len(host.effects()) < 3:
            await asyncio.sleep(0.02)
        pids = (await zombie.status()).pids
        for pid in pids.values():
            os.kill(pid, signal.SIGSTOP)
        late = asyncio.create_task(acknowledged(zombie, "late"))
        await asyncio.sleep(max(0.0, zombie.order.deadline - boottime()) + 0.2)
        heir = await host.start()
        await heir.serving()
        owner = host.owner()
        for pid in pids.values():
            with contextlib.suppress(ProcessLookupError):  # those that woke up first kill the rest
                os.kill(pid, signal.SIGCONT)
        await all_gone([pids["engine"], pids["sidecar"]])
        assert not await late
        assert (await zombie.ended()).state is NodeState.FENCED
        assert host.owner() == owner
        assert await heir.result("job", wait=30.0) == 200

    on_host(scenario)


def test_a_dead_engine_is_restarted_in_place(on_host: OnHost) -> None:
    async def scenario(host: TestHost) -> None:
        node = await host.start()
        before = await node.serving()
        await node.begin("job", steps=15, pause=0.02)
        while len(host.effects()) < 4:
            await asyncio.sleep(0.01)
        os.kill((await node.status()).pids["engine"], signal.SIGKILL)
        after = await node.until(partial(restarted, 1), "restarted its engine")
        assert (after.epoch, after.incarnation) == (before.epoch, before.incarnation)
        assert await node.result("job") == 15
        answer = await node.begin("more", steps=1)
        assert answer.status_code == 201, (answer.text, await node.status())
        assert answer.json()["durable"] is True

    on_host(scenario)


def test_engines_killed_in_the_middle_of_commits_leave_the_replica_whole(on_host: OnHost) -> None:
    """A commit that reached the WAL but not its index is seen by Litestream and not by SQLite.

    Without a restart of the sidecar, about one kill in twenty wedged its uploads for ever.
    """

    async def scenario(host: TestHost) -> None:
        node = await host.start()
        await node.serving()
        moments = random.Random(7)
        for kill in range(1, 16):
            await node.begin(f"job-{kill}", steps=30, ack="async")
            await asyncio.sleep(moments.uniform(0.0, 0.1))
            os.kill((await node.status()).pids["engine"], signal.SIGKILL)
            await node.until(
                partial(restarted, kill), f"restarted its engine {kill} times", seconds=60.0
            )
        assert await acknowledged(node, "last")
        for kill in range(1, 16):
            assert await node.result(f"job-{kill}") == 30
        status = await node.status()
        # One that only took too long, on a busy machine, says nothing about the replica.
        assert not [text for text in status.incidents if "not proven: unknown" in text]
        await node.remote.drain()
        assert (await node.ended()).state is NodeState.RELEASED
        latest = await newest(host)
        assert latest.checked == inspect_log(node.folder / "data" / "log.db")
        assert latest.checked.executions["completed"] == 16

    on_host(scenario)


@pytest.mark.parametrize("process", ["engine", "sidecar", "both"])
@pytest.mark.parametrize("later", [0.0, 0.02, 0.15, 0.4])
def test_a_planned_stop_finds_what_it_needs_being_restarted(
    on_host: OnHost, process: str, later: float
) -> None:
    """Whatever is dead or half started when the node is told to stop, all of the log is in the
    bucket when it says that it is released, and nothing is added to it any more."""

    async def scenario(host: TestHost) -> None:
        node = await host.start()
        await node.serving()
        await node.begin("job", steps=200, pause=0.01, ack="async")
        while len(host.effects()) < 5:
            await asyncio.sleep(0.01)
        pids = (await node.status()).pids
        for name in ("engine", "sidecar"):
            if process in (name, "both"):
                os.kill(pids[name], signal.SIGKILL)
        await asyncio.sleep(later)
        await node.remote.drain()
        status = await node.ended()
        assert status.state is NodeState.RELEASED, (status.detail, status.incidents)
        latest = await newest(host)
        assert latest.checked == inspect_log(node.folder / "data" / "log.db")

    on_host(scenario)


@pytest.mark.parametrize("process", ["engine", "sidecar"])
def test_a_sync_cut_off_by_a_planned_restart_is_no_incident(on_host: OnHost, process: str) -> None:
    """The sidecar is frozen, so that a sync is surely under way when it is killed.

    When the engine dies, it is the supervisor that kills the sidecar, and who waits is told of the
    next one's proof. A sidecar that is killed by somebody else, the twin, is an incident.
    """

    async def scenario(host: TestHost) -> None:
        node = await host.start()
        pids = (await node.serving()).pids
        os.kill(pids["sidecar"], signal.SIGSTOP)
        await node.begin("job", steps=3, ack="async")
        # Proofs are asked for once a second while something is not proven.
        await node.until(lambda status: status.lag.seconds > 1.5, "waited for a proof")
        os.kill(pids[process], signal.SIGKILL)
        status = await node.until(
            lambda status: status.lag.sequence == status.lag.proven_sequence and status.serving,
            "proved it",
        )
        assert (status.engine_restarts, status.sidecar_restarts) == (process == "engine", 1)
        cut_off = [text for text in status.incidents if "not proven: unknown: /sync" in text]
        assert len(cut_off) == (process == "sidecar")

    on_host(scenario)


def test_a_reader_that_does_not_end_is_named(on_host: OnHost) -> None:
    """Somebody with a shell and a SQLite tool; the engine and the sidecar read all the time."""

    async def scenario(host: TestHost) -> None:
        host.guards = GuardSettings(every=0.1, reader_seconds=0.5)
        node = await host.start()
        database = node.folder / "data" / "log.db"
        await node.serving()
        await node.begin("job", steps=5, ack="async")
        await node.result("job")
        code = (
            "import sys, apsw; db = apsw.Connection(sys.argv[1]);"
            "db.execute('PRAGMA wal_autocheckpoint=0'); db.execute('BEGIN');"
            "db.execute('SELECT count(*) FROM executions').fetchall();"
            "print('reads', flush=True); sys.stdin.read()"
        )
        reader = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            code,
            str(database),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert reader.stdout is not None
        assert await reader.stdout.readline() == b"reads\n"
        await node.begin("later", steps=1, ack="async")
        status = await node.until(lambda status: bool(status.alerts), "alerted")
        (alert,) = status.alerts
        assert alert.guard is Guard.READER
        assert f"process {reader.pid}" in alert.text
        await reader.communicate(b"")
        await node.until(lambda status: not status.alerts, "was content again")

    on_host(scenario)


def restarted(times: int, status: NodeStatus) -> bool:
    return status.engine_restarts == times and status.serving


def test_a_dead_sidecar_is_restarted_in_its_epoch(on_host: OnHost) -> None:
    async def scenario(host: TestHost) -> None:
        node = await host.start(durability="before_effects")
        await node.serving()
        assert (await node.begin("one", steps=2)).json()["durable"]
        os.kill((await node.status()).pids["sidecar"], signal.SIGKILL)
        answer = await node.begin("two", steps=2)
        while answer.status_code == 503:
            answer = await node.begin("two", steps=2)
        assert answer.json()["durable"] is True
        status = await node.status()
        assert (status.epoch, status.sidecar_restarts) == (1, 1)
        assert await node.result("two") == 2
        await node.remote.drain()
        assert (await node.ended()).state is NodeState.RELEASED
        latest = await newest(host)
        assert latest.checked.executions["completed"] == 2

    on_host(scenario)


async def lose_supervisor(node: TestNode) -> NodeStatus:
    """SIGKILL the supervisor alone; engine and sidecar must follow by the kernel's hand."""
    status = await node.status()
    os.kill(status.pids["supervisor"], signal.SIGKILL)
    await all_gone([status.pids["engine"], status.pids["sidecar"], status.pids["cradle"]])
    return status


def test_nothing_outlives_its_supervisor_and_the_local_tail_is_used(on_host: OnHost) -> None:
    """A restart on the same host: what was committed and not yet uploaded is not lost."""

    async def scenario(host: TestHost) -> None:
        node = await host.start()
        await node.serving()
        assert (await node.begin("old", steps=3)).json()["durable"] is True
        await node.result("old")
        pids = (await node.status()).pids
        # What is committed from now on stays on this disk only.
        os.kill(pids["sidecar"], signal.SIGSTOP)
        answer = await node.begin("tail", steps=3, ack="async")
        assert answer.json()["durable"] is False
        while len(host.effects()) < 6:
            await asyncio.sleep(0.01)
        await lose_supervisor(node)

        tail = Tail(epoch=1, database=node.folder / "data" / "log.db")
        heir = await host.start(tail=tail)
        status = await heir.serving()
        assert status.epoch == 2
        assert any("is used" in text for text in status.incidents)
        assert await heir.result("tail") == 3
        assert len({line.split()[2] for line in host.effects()}) == 6

    on_host(scenario)


def test_a_restore_ends_with_its_supervisor(on_host: OnHost) -> None:
    """It would wait for a store that hangs, for hours, with nobody left who wants the file."""

    async def scenario(host: TestHost) -> None:
        node = await host.start()
        await node.serving()
        await node.begin("one", steps=1)
        node.kill_all(await node.status())
        async with FaultyStore(host.settings) as proxy:
            proxy.policy = lambda request: Hung() if request.key.endswith(".ltx") else None
            behind = FaultyHost(
                proxy.settings, host.data, host.marks, host.nursery, near=host.settings
            )
            heir = await behind.start()
            supervisor = psutil.Process(heir.pid)
            restores: list[int] = []
            while not restores:
                await asyncio.sleep(0.05)
                with contextlib.suppress(psutil.NoSuchProcess):
                    restores = [
                        child.pid for child in supervisor.children() if "restore" in child.cmdline()
                    ]
            os.kill(heir.pid, signal.SIGKILL)
            await all_gone(restores)

    on_host(scenario)


def test_without_its_disk_the_asynchronous_tail_is_gone_and_nothing_else(on_host: OnHost) -> None:
    """The broken twin of the test above: it can tell the difference."""

    async def scenario(host: TestHost) -> None:
        node = await host.start()
        await node.serving()
        assert (await node.begin("old", steps=3)).json()["durable"] is True
        os.kill((await node.status()).pids["sidecar"], signal.SIGSTOP)
        await node.begin("tail", steps=3, ack="async")
        await lose_supervisor(node)
        heir = await host.start()
        await heir.serving()
        assert (await heir.call("GET", "/executions/tail")).status_code == 404
        assert await heir.result("old") == 3

    on_host(scenario)


def test_a_tail_that_is_behind_the_bucket_is_left_alone(on_host: OnHost) -> None:
    """A disk that was rolled back: it passed every check but this one, and lost rows."""

    async def scenario(host: TestHost) -> None:
        node = await host.start()
        await node.serving()
        await node.begin("one", steps=1)
        await node.result("one")
        old = host.data / "old"
        old.mkdir()
        source = apsw.Connection(str(node.folder / "data" / "log.db"))
        source.execute("PRAGMA wal_autocheckpoint=0")
        target = apsw.Connection(str(old / "log.db"))
        with target.backup("main", source, "main") as copying:
            copying.step()
        target.close()
        source.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        source.close()
        await node.begin("two", steps=1)
        assert (await node.begin("three", steps=1)).json()["durable"] is True
        node.kill_all(await node.status())
        heir = await host.start(tail=Tail(epoch=1, database=old / "log.db"))
        status = await heir.serving()
        assert any("the bucket's stands" in text for text in status.incidents)
        assert await heir.result("three") == 1

    on_host(scenario)


def test_an_order_on_an_older_record_changes_nothing(on_host: OnHost) -> None:
    async def scenario(host: TestHost) -> None:
        node = await host.start()
        await node.serving()
        owner = host.owner()
        assert owner is not None
        stale = await host.start(expected='"an older one"')
        assert (await stale.ended()).state is NodeState.SUPERSEDED
        # On the record as it stands, but its owner's authority has not ended.
        early = await host.start(authority_ended=False)
        assert (await early.ended()).state is NodeState.SUPERSEDED
        assert host.owner() == owner
        assert await acknowledged(node, "still")

    on_host(scenario)


def test_a_new_tenant_over_old_data_is_refused_loudly(on_host: OnHost) -> None:
    """The record is gone, but the bucket holds epochs: never start empty where data may exist."""

    async def scenario(host: TestHost) -> None:
        S3Store(host.settings).put(keys.epoch("t", 1) + "0000/x.ltx", b"somebody's data")
        node = await host.start()
        ended = await node.ended()
        assert ended.state is NodeState.DAMAGED
        assert "epochs 00000001" in ended.detail
        assert not (node.folder / "data" / "log.db").exists()
        owner = host.owner()
        assert owner is not None
        assert owner.record.state is OwnerState.DAMAGED

    on_host(scenario)


@pytest.mark.parametrize("what", ["all", "base", "floor"])
def test_a_parent_that_is_not_whole_is_damage_not_an_older_state(
    on_host: OnHost, what: str
) -> None:
    async def scenario(host: TestHost) -> None:
        node = await host.start()
        await node.serving()
        for name in ("a", "b", "c"):
            assert (await node.begin(name, steps=1)).json()["durable"]
        node.kill_all(await node.status())
        store = host.store
        found = sorted(entry.key for entry in store.list(keys.epoch("t", 1)))
        assert len(found) >= 3
        floor = 0
        if what == "all":
            for key in found:
                store.delete(key)
        elif what == "base":
            for key in found:  # at whatever level a compaction may have put it by now
                if f"/{1:016x}-" in key:
                    store.delete(key)
        else:
            # The newest transaction is gone with no gap to show for it: only the floor tells.
            floor = list_epoch(store, "t", 1).reachable
            for key in found:
                if key.endswith(f"-{floor:016x}.ltx"):
                    store.delete(key)
        heir = await host.start(floor_txid=floor)
        ended = await heir.ended()
        assert ended.state is NodeState.DAMAGED, ended
        owner = host.owner()
        assert owner is not None
        assert isinstance(owner.record, OwnerRecord)
        assert owner.record.state is OwnerState.DAMAGED
        assert owner.record.reason

    on_host(scenario)
