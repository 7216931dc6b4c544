"""A tenant's key reaches its own replicas, and the store refuses it everything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import boto3
import botocore.exceptions
import pytest
from botocore.config import Config

from backup.errors import Denied, Unreachable
from backup.settings import Credentials, StoreSettings
from fleet.issuer import IamIssuer, SharedIssuer

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Attempt = Callable[["S3Client", StoreSettings], Any]


def client_of(settings: StoreSettings, credentials: Credentials) -> S3Client:
    return boto3.client(
        "s3",
        endpoint_url=settings.endpoint,
        aws_access_key_id=credentials.access_key_id,
        aws_secret_access_key=credentials.secret_access_key.get_secret_value(),
        region_name=settings.region,
        config=Config(retries={"total_max_attempts": 1}),
    )


def own(settings: StoreSettings, tenant: str = "a") -> str:
    return f"{settings.prefix}/tenants/{tenant}/epochs/00000001/0000/x.ltx"


@pytest.fixture
def world(store_settings: StoreSettings) -> StoreSettings:
    """A fleet with two tenants in its bucket, and its neighbour `a2`, whose name begins alike."""
    admin = client_of(store_settings, store_settings.credentials)
    for tenant in ("a", "b", "a2"):
        for name in ("owner.json", "tenant.json", "epochs/00000001/0000/x.ltx"):
            key = f"{store_settings.prefix}/tenants/{tenant}/{name}"
            admin.put_object(Bucket=store_settings.bucket, Key=key, Body=b"before")
    lease = f"{store_settings.prefix}/hosts/h1/lease.json"
    admin.put_object(Bucket=store_settings.bucket, Key=lease, Body=b"before")
    return store_settings


def contents(settings: StoreSettings) -> dict[str, bytes]:
    admin = client_of(settings, settings.credentials)
    page = admin.list_objects_v2(Bucket=settings.bucket, Prefix=f"{settings.prefix}/")
    return {
        entry["Key"]: admin.get_object(Bucket=settings.bucket, Key=entry["Key"])["Body"].read()
        for entry in page["Contents"]
    }


def test_the_key_does_all_that_a_replica_needs(world: StoreSettings) -> None:
    bucket, key = world.bucket, f"{world.prefix}/tenants/a/epochs/00000002/0000/y.ltx"
    client = client_of(world, IamIssuer(world).issue("a"))

    client.put_object(Bucket=bucket, Key=key, Body=b"new")
    assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == b"new"
    listed = client.list_objects_v2(Bucket=bucket, Prefix=f"{world.prefix}/tenants/a/epochs/")
    assert [entry["Key"] for entry in listed["Contents"]] == [own(world), key]
    client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key}]})
    client.delete_object(Bucket=bucket, Key=own(world))
    upload = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    part = client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"p")
    client.complete_multipart_upload(
        Bucket=bucket,
        Key=key,
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )
    aborted = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=aborted)
    assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == b"p"


def _get(key: str) -> Attempt:
    return lambda c, s: c.get_object(Bucket=s.bucket, Key=f"{s.prefix}/{key}")


def _put(key: str) -> Attempt:
    return lambda c, s: c.put_object(Bucket=s.bucket, Key=f"{s.prefix}/{key}", Body=b"after")


def _delete(key: str) -> Attempt:
    return lambda c, s: c.delete_object(Bucket=s.bucket, Key=f"{s.prefix}/{key}")


def _list(prefix: str) -> Attempt:
    return lambda c, s: c.list_objects_v2(Bucket=s.bucket, Prefix=f"{s.prefix}/{prefix}")


FOREIGN: dict[str, Attempt] = {
    "read its own ownership record": _get("tenants/a/owner.json"),
    "write its own ownership record": _put("tenants/a/owner.json"),
    "delete its own ownership record": _delete("tenants/a/owner.json"),
    "write its own wanted state": _put("tenants/a/tenant.json"),
    "read another tenant": _get("tenants/b/epochs/00000001/0000/x.ltx"),
    "write another tenant": _put("tenants/b/epochs/00000001/0000/x.ltx"),
    "delete from another tenant": _delete("tenants/b/epochs/00000001/0000/x.ltx"),
    "list another tenant": _list("tenants/b/epochs/"),
    "write a tenant whose name begins alike": _put("tenants/a2/epochs/00000001/0000/x.ltx"),
    "list all of its own": _list("tenants/a/"),
    "list all tenants": _list("tenants/"),
    "list with a prefix that is cut short": _list("tenants/a/epoch"),
    "write a host's lease": _put("hosts/h1/lease.json"),
    "climb out": _get("tenants/a/epochs/../../b/epochs/00000001/0000/x.ltx"),
    "climb out and write": _put("tenants/a/epochs/../../b/epochs/00000001/0000/x.ltx"),
    "list the bucket": lambda c, s: c.list_objects_v2(Bucket=s.bucket),
    "list the bucket in the old way": lambda c, s: c.list_objects(Bucket=s.bucket),
    "list versions": lambda c, s: c.list_object_versions(Bucket=s.bucket),
    "list uploads": lambda c, s: c.list_multipart_uploads(Bucket=s.bucket),
    "delete the bucket": lambda c, s: c.delete_bucket(Bucket=s.bucket),
    "copy from another tenant": lambda c, s: c.copy_object(
        Bucket=s.bucket, Key=own(s), CopySource=f"{s.bucket}/{own(s, 'b')}"
    ),
}


def code_of(attempt: Attempt, client: S3Client, settings: StoreSettings) -> str:
    """The error that an attempt meets, or "done"."""
    try:
        attempt(client, settings)
    except botocore.exceptions.ClientError as error:
        return error.response["Error"]["Code"]
    return "done"


def test_the_key_does_nothing_else(world: StoreSettings) -> None:
    client = client_of(world, IamIssuer(world).issue("a"))
    before = contents(world)
    codes = {name: code_of(attempt, client, world) for name, attempt in FOREIGN.items()}
    climbing = {name for name in FOREIGN if name.startswith("climb")}
    assert codes == {
        name: "InvalidRequest" if name in climbing else "AccessDenied" for name in FOREIGN
    }
    # This one answers 200 with an error for each key in it.
    client.delete_objects(Bucket=world.bucket, Delete={"Objects": [{"Key": own(world, "b")}]})
    assert contents(world) == before


def test_the_shared_key_is_not_stopped(world: StoreSettings) -> None:
    """The broken twin: what `SharedIssuer` gives up, the attempts above do notice."""
    client = client_of(world, SharedIssuer(world.credentials).issue("a"))
    before = contents(world)
    FOREIGN["write another tenant"](client, world)
    FOREIGN["list all tenants"](client, world)
    assert contents(world) != before


def test_the_key_cannot_make_keys(world: StoreSettings) -> None:
    issuer = IamIssuer(world.reached_with(IamIssuer(world).issue("a")))
    with pytest.raises(Denied, match="manage users"):
        issuer.issue("b")


def test_keys_of_two_tenants_differ_and_end_one_by_one(world: StoreSettings) -> None:
    issuer = IamIssuer(world)
    a, b = issuer.issue("a"), issuer.issue("b")
    issuer.revoke("a")
    with pytest.raises(botocore.exceptions.ClientError, match="InvalidAccessKeyId"):
        client_of(world, a).get_object(Bucket=world.bucket, Key=own(world, "a"))
    client_of(world, b).get_object(Bucket=world.bucket, Key=own(world, "b"))
    issuer.revoke("a")  # again: nothing to do
    again = issuer.issue("a")
    client_of(world, again).get_object(Bucket=world.bucket, Key=own(world, "a"))


def test_a_new_key_leaves_the_one_before_and_ends_the_one_before_that(
    world: StoreSettings,
) -> None:
    issuer = IamIssuer(world)
    first, second, third = (issuer.issue("a") for _ in range(3))
    assert len({key.access_key_id for key in (first, second, third)}) == 3
    for key in (second, third):
        client_of(world, key).get_object(Bucket=world.bucket, Key=own(world))
    with pytest.raises(botocore.exceptions.ClientError, match="InvalidAccessKeyId"):
        client_of(world, first).get_object(Bucket=world.bucket, Key=own(world))


def test_one_tenant_of_two_fleets_is_two_users(world: StoreSettings, embedded_store: Any) -> None:
    other = embedded_store.settings(f"{world.prefix}-other")
    here, there = IamIssuer(world), IamIssuer(other)
    key = here.issue("a")
    there.issue("a")
    there.revoke("a")
    client_of(world, key).get_object(Bucket=world.bucket, Key=own(world))


def test_a_store_that_is_away_is_said(store_settings: StoreSettings) -> None:
    away = store_settings.model_copy(
        update={"endpoint": "http://127.0.0.1:9", "connect_timeout": 0.2}
    )
    with pytest.raises(Unreachable, match="storage key for tenant a"):
        IamIssuer(away).issue("a")
