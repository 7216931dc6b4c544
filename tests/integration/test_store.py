"""One contract for every object store: the one in memory, SeaweedFS and moto's server."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import boto3
import pytest
from moto.server import ThreadedMotoServer
from pydantic import SecretStr

from backup.errors import Denied, NotFound, Precondition, Unreachable
from backup.memory import MemoryStore
from backup.probe import probe
from backup.settings import Credentials, StoreSettings
from backup.store import ObjectStore, S3Store
from fleet.seaweed import EmbeddedStore


@pytest.fixture(scope="module")
def moto_settings() -> Iterator[StoreSettings]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = StoreSettings(
        endpoint=f"http://{host}:{port}",
        bucket="bucket",
        credentials=Credentials(access_key_id="any", secret_access_key=SecretStr("any")),
    )
    boto3.client(
        "s3",
        endpoint_url=settings.endpoint,
        region_name=settings.region,
        aws_access_key_id="any",
        aws_secret_access_key="any",
    ).create_bucket(Bucket="bucket")
    yield settings
    server.stop()


@pytest.fixture(params=["memory", "seaweedfs", "moto"])
def store(
    request: pytest.FixtureRequest, embedded_store: EmbeddedStore, moto_settings: StoreSettings
) -> ObjectStore:
    if request.param == "memory":
        return MemoryStore()
    prefix = f"contract-{secrets.token_hex(4)}"
    if request.param == "seaweedfs":
        return S3Store(embedded_store.settings(prefix))
    return S3Store(moto_settings.model_copy(update={"prefix": prefix}))


def test_read_after_write(store: ObjectStore) -> None:
    etag = store.put("a/b", b"one")
    assert (store.get("a/b").body, store.get("a/b").etag) == (b"one", etag)
    newer = store.put("a/b", b"two")
    assert newer != etag
    assert store.get("a/b").body == b"two"


def test_read_a_part(store: ObjectStore) -> None:
    store.put("k", b"0123456789")
    assert store.get_part("k", 0, 3) == b"012"
    assert store.get_part("k", 8, 5) == b"89"
    assert store.get_part("k", 10, 5) == b""
    with pytest.raises(NotFound):
        store.get_part("nothing", 0, 1)


@pytest.mark.parametrize("size", [0, 1000, 40 << 20])
def test_files_of_any_size(store: ObjectStore, tmp_path: Path, size: int) -> None:
    (tmp_path / "there").write_bytes(secrets.token_bytes(size))
    store.upload("a/file", tmp_path / "there")
    store.download("a/file", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "there").read_bytes()
    with pytest.raises(NotFound):
        store.download("a/nothing", tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_what_is_not_there(store: ObjectStore) -> None:
    with pytest.raises(NotFound):
        store.get("nothing")
    store.delete("nothing")
    assert list(store.list("no/")) == []
    assert list(store.prefixes("no/")) == []


def test_conditions(store: ObjectStore) -> None:
    etag = store.put("k", b"one", if_none_match=True)
    with pytest.raises(Precondition):
        store.put("k", b"again", if_none_match=True)
    newer = store.put("k", b"two", if_match=etag)
    with pytest.raises(Precondition):
        store.put("k", b"stale", if_match=etag)
    with pytest.raises((Precondition, NotFound)):
        store.put("absent", b"x", if_match=newer)
    assert store.get("k").body == b"two"


def test_one_winner_of_a_race(store: ObjectStore) -> None:
    start = store.put("race", b"start")

    def contend(number: int) -> bool:
        try:
            store.put("race", b"%d" % number, if_match=start)
        except Precondition:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(contend, range(8))) == 1


def test_lists_go_over_pages_and_stay_in_their_prefix(store: ObjectStore) -> None:
    for number in range(30):
        store.put(f"many/{number % 3}/{number:04}", b"x" * number)
    store.put("manyother/1", b"x")
    found = list(store.list("many/"))
    assert len(found) == 30
    assert {entry.size for entry in found} == set(range(30))
    assert sorted(store.prefixes("many/")) == ["0", "1", "2"]


def test_deleted_is_gone(store: ObjectStore) -> None:
    store.put("gone", b"x")
    store.delete("gone")
    with pytest.raises(NotFound):
        store.get("gone")


def test_the_store_has_a_clock(store: ObjectStore) -> None:
    assert abs((store.date() - datetime.now(UTC)).total_seconds()) < 5


def test_the_probe_passes_and_leaves_nothing(store: ObjectStore) -> None:
    report = probe(store)
    assert report.ok, report.findings
    assert list(store.list("probe/")) == []


def test_more_than_a_page(embedded_store: EmbeddedStore) -> None:
    store = S3Store(embedded_store.settings(f"pages-{secrets.token_hex(4)}"))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store.put(f"p/{number:05}", b""), range(1100)))
    assert [entry.key for entry in store.list("p/")] == [f"p/{number:05}" for number in range(1100)]


Change = Callable[[StoreSettings], StoreSettings]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda s: s.model_copy(update={"endpoint": "http://127.0.0.1:9"}), Unreachable),
        (
            lambda s: s.reached_with(
                Credentials(
                    access_key_id=s.credentials.access_key_id,
                    secret_access_key=SecretStr("wrong"),
                )
            ),
            Denied,
        ),
    ],
)
def test_what_is_wrong_is_told_apart(
    store_settings: StoreSettings, change: Change, error: type[Exception]
) -> None:
    store = S3Store(change(store_settings))
    with pytest.raises(error):
        store.put("x", b"x")
    with pytest.raises(error):
        store.get("x")
    assert not probe(store).ok


def test_whether_removed_objects_are_kept_is_told(store: ObjectStore) -> None:
    assert store.versioning() == "off"


@pytest.mark.parametrize("status", ["Enabled", "Suspended"])
def test_a_bucket_that_keeps_versions_says_so(
    moto_settings: StoreSettings, status: Literal["Enabled", "Suspended"]
) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=moto_settings.endpoint,
        region_name=moto_settings.region,
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )
    client.create_bucket(Bucket=f"versions-{status.lower()}")
    client.put_bucket_versioning(
        Bucket=f"versions-{status.lower()}", VersioningConfiguration={"Status": status}
    )
    settings = moto_settings.model_copy(update={"bucket": f"versions-{status.lower()}"})
    assert S3Store(settings).versioning() == status.lower()
