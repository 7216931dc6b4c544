"""Facts about the released Litestream that the design stands on, and our keys taking effect.

If an upgrade changes the ground, these fail first.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import apsw
import boto3
import pytest
from moto.server import ThreadedMotoServer
from pydantic import SecretStr, ValidationError

from backup import keys, ownership, records
from backup.backlog import Backlog
from backup.lag import LagTracker
from backup.lease import LeaseRecord
from backup.litestream import binary, config
from backup.litestream.control import ControlError
from backup.litestream.pace import Pace
from backup.litestream.progress import Cure
from backup.litestream.sidecar import Sidecar, SidecarFailed
from backup.ownership import Owner, TenantRecord
from backup.settings import Credentials, Encryption, StoreSettings
from backup.store import S3Store
from fleet.bucket_lag import look
from fleet.views import LagView
from node.proofs import Replication
from restore.errors import Damaged, RestoreFailed
from restore.fetch import fetch
from restore.plan import SNAPSHOT_LEVEL, base_is_there, list_epoch
from tests.faulty_store import FaultyStore, Hung, Request


def open_database(path: Path) -> apsw.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    database = apsw.Connection(str(path))
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA wal_autocheckpoint=0")
    database.execute("CREATE TABLE IF NOT EXISTS t (a)")
    return database


def run(
    folder: Path,
    settings: StoreSettings,
    scenario: Callable[[apsw.Connection, Sidecar], Awaitable[None]],
) -> None:
    """Run a scenario beside a sidecar that streams ``folder/data/log.db`` as epoch 1 of t."""

    async def whole() -> None:
        database = open_database(folder / "data" / "log.db")
        database.execute("INSERT INTO t VALUES (0)")
        sidecar = Sidecar(settings, keys.epoch("t", 1), folder / "data" / "log.db", folder)
        await sidecar.start()
        try:
            await sidecar.ready(20.0)
            await scenario(database, sidecar)
        finally:
            await sidecar.stop()
            database.close()

    asyncio.run(whole())


def test_the_pinned_release_is_the_one_that_runs() -> None:
    assert binary.version(binary.find()) == binary.VERSION


def test_a_sync_uploads_what_was_committed(tmp_path: Path, store_settings: StoreSettings) -> None:
    async def scenario(database: apsw.Connection, sidecar: Sidecar) -> None:
        for number in range(1, 4):
            database.execute("INSERT INTO t VALUES (?)", (number,))
            seen = await sidecar.sync(5.0)
            assert 0 < seen.txid == seen.replicated
        assert list_epoch(S3Store(store_settings), "t", 1).reachable == seen.txid
        copy = tmp_path / "copy" / "log.db"
        fetched = await fetch(S3Store(store_settings), store_settings, "t", 1, seen.txid, copy)
        assert fetched.txid == seen.txid
        restored = apsw.Connection(str(copy), flags=apsw.SQLITE_OPEN_READONLY)
        assert [row[0] for row in restored.execute("SELECT a FROM t ORDER BY a")] == [0, 1, 2, 3]
        restored.close()
        with pytest.raises(RestoreFailed, match="not empty"):
            await fetch(S3Store(store_settings), store_settings, "t", 1, 0, copy)

    run(tmp_path, store_settings, scenario)


def test_the_backlog_is_told_to_the_byte(tmp_path: Path, store_settings: StoreSettings) -> None:
    """By Litestream's own files and the WAL index, whatever Litestream itself says."""

    async def scenario(database: apsw.Connection, sidecar: Sidecar) -> None:
        backlog = Backlog(tmp_path / "data" / "log.db")
        wal = tmp_path / "data" / "log.db-wal"
        seen = await sidecar.sync(5.0)
        assert backlog.bytes(seen.replicated) == 0
        assert sidecar.pid is not None
        os.kill(sidecar.pid, signal.SIGSTOP)
        before = wal.stat().st_size
        for _ in range(5):
            database.execute("INSERT INTO t VALUES (zeroblob(10000))")
        behind = backlog.bytes(seen.replicated)
        assert behind == wal.stat().st_size - before > 50_000
        os.kill(sidecar.pid, signal.SIGCONT)
        after = await sidecar.sync(5.0)
        assert backlog.bytes(after.replicated) == 0
        # Taken from the WAL, and not in the bucket: as if it had been uploaded to nowhere.
        assert backlog.bytes(seen.replicated) == behind

    run(tmp_path, store_settings, scenario)


def test_a_replica_that_is_not_there_is_noticed_by_the_bucket_alone(
    tmp_path: Path, store_settings: StoreSettings
) -> None:
    async def scenario(database: apsw.Connection, sidecar: Sidecar) -> None:
        store = S3Store(store_settings)
        for number in range(1, 5):
            database.execute("INSERT INTO t VALUES (?)", (number,))
            seen = await sidecar.sync(5.0)
        owner = Owner(host="a", incarnation="l.n")
        record = ownership.claim(None, "t", owner, authority_ended=True)
        records.swap(store, keys.owner("t"), ownership.activate(record, owner, 1), None)
        records.swap(store, keys.wanted("t"), TenantRecord(tenant="t", app="app"), None)
        lease = LeaseRecord(host="a", incarnation="l", proven={"t": f"1:{seen.replicated}"})
        records.swap(store, keys.lease("a"), lease, None)

        def host_says(proven: str) -> None:
            said = lease.model_copy(update=lease.succeeded_by(proven={"t": proven}))
            records.change(store, keys.lease("a"), LeaseRecord, lambda now: said)

        told = LagView(tenant="t", epoch=1, txid=seen.txid, replicated_txid=seen.replicated)
        (view,) = look(store, [told])
        assert (view.txid, view.proven_txid, view.behind_txids) == (seen.txid, seen.txid, 0)
        assert (view.finding, view.age_seconds is None) == ("", False)
        # A host, or the coordinator, says more than is there.
        host_says(f"1:{seen.txid + 3}")
        (view,) = look(store)
        assert view.finding.startswith(f"{seen.txid + 3} was said to be in the bucket, which ends")
        host_says("2:99")  # of another epoch, that says nothing of this one
        assert [one.finding for one in look(store)] == [""]
        bold = told.model_copy(update={"replicated_txid": 99})
        assert [bool(one.finding) for one in look(store, [bold])] == [True]
        # A file in the middle is gone.
        gone = f"{keys.epoch('t', 1)}0000/{3:016x}-{3:016x}.ltx"
        store.delete(gone)
        (view,) = look(store, [told])
        assert view.finding == f"transaction 3 is missing, though {seen.txid} is there"
        assert view.behind_txids == seen.txid - 2

    run(tmp_path, store_settings, scenario)


def test_a_restore_is_not_fooled_by_a_gap(tmp_path: Path, store_settings: StoreSettings) -> None:
    """Litestream itself would restore the older part and exit 0."""

    async def scenario(database: apsw.Connection, sidecar: Sidecar) -> None:
        for number in range(1, 5):
            database.execute("INSERT INTO t VALUES (?)", (number,))
            await sidecar.sync(5.0)

    run(tmp_path, store_settings, scenario)
    store = S3Store(store_settings)
    for file in list_epoch(store, "t", 1).files:
        if file.low <= 3 <= file.high:
            store.delete(keys.epoch("t", 1) + file.name)
    assert list_epoch(store, "t", 1).gapped

    async def restore() -> None:
        await fetch(store, store_settings, "t", 1, 0, tmp_path / "copy" / "log.db")

    with pytest.raises(Damaged, match="transaction 3 is missing"):
        asyncio.run(restore())
    assert not (tmp_path / "copy" / "log.db").exists()


def test_two_sidecars_in_one_folder_are_refused(
    tmp_path: Path, store_settings: StoreSettings
) -> None:
    """Litestream would not refuse: the second steals the socket, and deletes it when it ends."""

    async def scenario(database: apsw.Connection, sidecar: Sidecar) -> None:
        second = Sidecar(store_settings, keys.epoch("t", 1), tmp_path / "data" / "log.db", tmp_path)
        with pytest.raises(SidecarFailed, match="another sidecar"):
            await second.start()
        database.execute("INSERT INTO t VALUES (1)")
        assert (await sidecar.sync(5.0)).replicated > 0

    run(tmp_path, store_settings, scenario)


def test_an_inherited_ca_bundle_would_kill_it_and_is_not_inherited(
    tmp_path: Path, store_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nowhere.pem")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "not-this-one")

    async def scenario(database: apsw.Connection, sidecar: Sidecar) -> None:
        assert (await sidecar.sync(5.0)).replicated > 0
        environment = Path(f"/proc/{sidecar.pid}/environ").read_bytes()
        assert b"AWS_" not in environment

    run(tmp_path, store_settings, scenario)


def test_it_dies_with_its_parent(tmp_path: Path, store_settings: StoreSettings) -> None:
    async def child() -> int:
        open_database(tmp_path / "data" / "log.db").close()
        sidecar = Sidecar(
            store_settings, keys.epoch("t", 1), tmp_path / "data" / "log.db", tmp_path
        )
        await sidecar.start()
        await sidecar.ready(20.0)
        assert sidecar.pid is not None
        return sidecar.pid

    ours, theirs = os.pipe()
    parent = os.fork()
    if parent == 0:
        os.write(theirs, str(asyncio.run(child())).encode())
        signal.pause()
    pid = int(os.read(ours, 32))
    os.close(ours)
    os.close(theirs)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    for _ in range(1000):
        if not Path(f"/proc/{pid}").exists():
            break
        os.sched_yield()
        signal.sigtimedwait([], 0.01)
    assert not Path(f"/proc/{pid}").exists()


# -- the keys that we set ------------------------------------------------------------------------


def test_an_unknown_key_is_refused_by_us_since_litestream_ignores_it() -> None:
    with pytest.raises(ValidationError):
        config.Socket.model_validate({"path": "x", "premissions": 0o600})


def test_socket_and_logging_keys_take_effect(tmp_path: Path, store_settings: StoreSettings) -> None:
    async def scenario(database: apsw.Connection, sidecar: Sidecar) -> None:
        mode = (tmp_path / "litestream.sock").stat().st_mode
        assert stat.S_IMODE(mode) == 0o600
        told = log_of(tmp_path)  # every line is JSON
        assert any(line.get("msg") == "litestream" for line in told)

    run(tmp_path, store_settings, scenario)


def log_of(tmp_path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (tmp_path / "litestream.log").read_text().splitlines()]


def test_level_and_retention_keys_take_effect(
    tmp_path: Path, store_settings: StoreSettings
) -> None:
    async def scenario(database: apsw.Connection, sidecar: Sidecar) -> None:
        intervals = {
            line["level"]: line["interval"]
            for line in log_of(tmp_path)
            if line.get("msg") == "starting compaction monitor"
        }
        second = 1_000_000_000
        assert intervals == {
            1: 30 * second,
            2: 300 * second,
            3: 3600 * second,
            9: 24 * 3600 * second,
        }

    run(tmp_path, store_settings, scenario)


@pytest.mark.parametrize("interval", ["100ms", "1h"])
def test_sync_interval_takes_effect(
    tmp_path: Path, store_settings: StoreSettings, interval: str
) -> None:
    """With 1h nothing is uploaded by itself; with 100ms it is. The same key, both ways."""
    store = S3Store(store_settings)

    async def scenario(database: apsw.Connection, sidecar: Sidecar) -> None:
        uploaded = 0
        while not base_is_there(store, "t", 1):
            await asyncio.sleep(0.05)
        for number in range(1, 4):
            before = list_epoch(store, "t", 1).reachable
            database.execute("INSERT INTO t VALUES (?)", (number,))
            for _ in range(200 if interval == "100ms" else 10):
                if list_epoch(store, "t", 1).reachable > before:
                    uploaded += 1
                    break
                await asyncio.sleep(0.1)
        # Its first upload does not wait for the interval; every later one does.
        assert uploaded == 3 if interval == "100ms" else uploaded <= 1

    folder = tmp_path
    original = config.Replica.model_fields["sync_interval"].default
    assert original == "1s"
    written = config.for_epoch

    def changed(*arguments: object) -> config.LitestreamConfig:
        made = written(*arguments)  # type: ignore[arg-type]
        database = made.dbs[0]
        replica = database.replica.model_copy(update={"sync_interval": interval})
        return made.model_copy(update={"dbs": [database.model_copy(update={"replica": replica})]})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "for_epoch", changed)
        run(folder, store_settings, scenario)


@pytest.mark.parametrize("cure", list(Cure))
def test_an_upload_that_hangs_is_cured(
    tmp_path: Path, store_settings: StoreSettings, cure: Cure
) -> None:
    """Without a cure the store may be well again for as long as it likes: nothing is uploaded."""

    async def scenario() -> None:
        database = open_database(tmp_path / "data" / "log.db")
        database.execute("INSERT INTO t VALUES (0)")
        async with FaultyStore(store_settings) as proxy:
            sidecar = Sidecar(
                proxy.settings, keys.epoch("t", 1), tmp_path / "data" / "log.db", tmp_path
            )
            await sidecar.start()
            replication = Replication(sidecar, LagTracker())
            await sidecar.ready(20.0)
            replication.started()
            uploaded = (await replication.sync(10.0)).replicated
            assert uploaded > 0
            hung: list[Request] = []

            def hang(request: Request) -> Hung | None:
                if request.operation != "put" or "/0000/" not in request.key:
                    return None
                hung.append(request)
                return Hung()

            proxy.policy = hang
            database.execute("INSERT INTO t VALUES (1)")
            # By Litestream itself: one that a /sync begins is given up with the /sync.
            while not hung:
                await asyncio.sleep(0.05)
            proxy.policy = lambda request: None
            await replication.cure(cure)
            if cure is Cure.RESTART_SIDECAR:
                await sidecar.wait()
                await sidecar.start()
                await sidecar.ready(20.0)
                replication.started()
            database.execute("INSERT INTO t VALUES (2)")
            store = S3Store(store_settings)
            txid = uploaded
            for _ in range(100 if cure is not Cure.NONE else 30):
                reached, txid = list_epoch(store, "t", 1).reachable, await sidecar.control.txid()
                # A snapshot may take the first of the two there, past the request that hangs.
                if uploaded + 1 < reached == txid:
                    break
                await asyncio.sleep(0.1)
            assert (reached < txid) is (cure is Cure.NONE)
            if cure is Cure.NONE:
                with pytest.raises(ControlError):
                    await replication.sync(2.0)
            else:
                seen = await replication.sync(10.0)
                assert uploaded < seen.txid == seen.replicated
            sidecar.kill()
            await sidecar.wait()
        database.close()

    asyncio.run(scenario())


def test_another_pace_uploads_nothing_anew(tmp_path: Path, store_settings: StoreSettings) -> None:
    """The sidecar is killed and started again for it; the replica goes on where it was."""

    async def scenario() -> None:
        database = open_database(tmp_path / "data" / "log.db")
        database.execute("INSERT INTO t VALUES (randomblob(2000000))")
        async with FaultyStore(store_settings) as proxy:
            sidecar = Sidecar(
                proxy.settings, keys.epoch("t", 1), tmp_path / "data" / "log.db", tmp_path
            )
            await sidecar.start()
            await sidecar.ready(20.0)
            assert (await sidecar.sync(10.0)).replicated > 0
            written = json.loads((tmp_path / "litestream.yml").read_text())
            assert written["levels"][0]["interval"] == "30s"
            # A snapshot of the whole is uploaded once, soon after the start.
            while proxy.bytes_in < 4_000_000:
                await asyncio.sleep(0.05)
            # What was sent has also been taken: cut off before that, it would be sent again.
            snapshots = f"{keys.epoch('t', 1)}{SNAPSHOT_LEVEL:04d}/"
            while not list(S3Store(store_settings).list(snapshots)):
                await asyncio.sleep(0.05)
            # At each full half minute a compaction uploads the base once more, at another level.
            if (left := 30 - time.time() % 30) < 15:
                await asyncio.sleep(left + 1)
            for pace in (Pace.IDLE, Pace.BUSY):
                before = proxy.bytes_in
                sidecar.pace = pace
                sidecar.kill()
                await sidecar.wait()
                database.execute("INSERT INTO t VALUES (1)")
                await sidecar.start()
                await sidecar.ready(20.0)
                seen = await sidecar.sync(10.0)
                assert 0 < seen.txid == seen.replicated
                assert proxy.bytes_in - before < 100_000
            sidecar.kill()
            await sidecar.wait()
        database.close()

    asyncio.run(scenario())


def test_a_kms_key_takes_effect(tmp_path: Path) -> None:
    """What Litestream writes, and what we do, is asked to be encrypted under that key."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        settings = StoreSettings(
            endpoint=f"http://{host}:{port}",
            bucket="bucket",
            credentials=Credentials(access_key_id="any", secret_access_key=SecretStr("any")),
            encryption=Encryption(kms_key_id="alias/tenants"),
        )
        client = boto3.client(
            "s3",
            endpoint_url=settings.endpoint,
            region_name=settings.region,
            aws_access_key_id="any",
            aws_secret_access_key="any",
        )
        client.create_bucket(Bucket="bucket")

        async def streamed(database: apsw.Connection, sidecar: Sidecar) -> None:
            database.execute("INSERT INTO t VALUES (1)")
            await sidecar.sync(10.0)

        run(tmp_path, settings, streamed)
        store = S3Store(settings)
        store.put("record", b"one", if_none_match=True)
        large = tmp_path / "large"
        large.write_bytes(b"x" * (20 << 20))
        store.upload("large", large)
        found = {}
        for item in client.list_objects_v2(Bucket="bucket")["Contents"]:
            head = client.head_object(Bucket="bucket", Key=item["Key"])
            found[item["Key"]] = (head.get("ServerSideEncryption"), head.get("SSEKMSKeyId"))
        assert {key.rpartition(".")[2] for key in found} >= {"ltx", "fleet/record", "fleet/large"}
        assert set(found.values()) == {("aws:kms", "alias/tenants")}, found
        # It reads what it wrote, and conditional writes hold.
        store.put("record", b"two", if_match=store.get("record").etag)
        restored = asyncio.run(fetch(store, settings, "t", 1, 0, tmp_path / "back" / "log.db"))
        rows = apsw.Connection(str(restored.database)).execute("SELECT count(*) FROM t").fetchall()
        assert rows == [(2,)]

        # The twin without the setting writes without it.
        plain = settings.model_copy(update={"encryption": None, "prefix": "plain"})
        S3Store(plain).put("record", b"one")
        head = client.head_object(Bucket="bucket", Key="plain/record")
        assert head.get("SSEKMSKeyId") is None
    finally:
        server.stop()
