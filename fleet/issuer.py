"""Storage keys for tenants: each reaches its own replicas and nothing else."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import boto3
import botocore.exceptions
from botocore.config import Config
from pydantic import SecretStr

from backup import keys
from backup.errors import Denied, StoreError, Unreachable
from backup.settings import Credentials, StoreSettings

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_iam.type_defs import AccessKeyMetadataTypeDef
    from mypy_boto3_s3 import S3Client

POLICY = "own-epochs"
KEYS_PER_USER = 2
"""How many keys AWS lets one user have; a third replaces the oldest."""

USABLE_WITHIN = 15.0
"""Seconds until a fresh key must work. AWS takes up to about 10, SeaweedFS a few milliseconds."""

_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_NO_SUCH = "NoSuchEntity"
_NOT_YET = frozenset(
    {"InvalidAccessKeyId", "AccessDenied", "SignatureDoesNotMatch", "InvalidClientTokenId", "403"}
)
_FORBIDDEN = re.compile(r"[^A-Za-z0-9+=,.@_-]")


class CredentialIssuer(Protocol):
    """Makes storage keys for tenants. Blocking; raises `StoreError`."""

    def issue(self, tenant: str) -> Credentials:
        """A new key for the tenant's replicas, usable when this returns.

        A key given before stays valid, so that a running sidecar is not cut off; of more than
        two, the oldest goes.
        """

    def revoke(self, tenant: str) -> None:
        """Make all keys of the tenant invalid; no error if it has none."""


class SharedIssuer:
    """Every tenant gets the same given key: for stores that have no IAM API.

    What is lost: the store no longer keeps tenants apart. A sidecar, or whoever gets hold of its
    key, can read and overwrite the replicas of every tenant and the fleet's own records. What
    remains is that tenant code never holds the key.
    """

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def issue(self, tenant: str) -> Credentials:
        return self._credentials

    def revoke(self, tenant: str) -> None:
        """Nothing to do: the key is not the tenant's own."""


class IamIssuer:
    """A user for each tenant, made over the AWS IAM API (SeaweedFS serves it on the S3 port).

    ``settings`` carry the administrator's key; ``iam_endpoint`` is where the IAM API is when it
    is not at the S3 endpoint. ``now`` and ``sleep`` are for the wait until a key works.
    """

    def __init__(
        self,
        settings: StoreSettings,
        *,
        iam_endpoint: str | None = None,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._now = now
        self._sleep = sleep
        self._iam: IAMClient = boto3.client(
            "iam",
            endpoint_url=iam_endpoint or settings.endpoint,
            aws_access_key_id=settings.credentials.access_key_id,
            aws_secret_access_key=settings.credentials.secret_access_key.get_secret_value(),
            region_name=settings.region,
            config=self._config(attempts=3),
        )

    def issue(self, tenant: str) -> Credentials:
        user = user_name(self._settings, tenant)
        try:
            try:
                self._iam.create_user(UserName=user)
            except self._iam.exceptions.EntityAlreadyExistsException:
                for key in keys_to_drop(self._keys(user)):
                    self._iam.delete_access_key(UserName=user, AccessKeyId=key)
            self._iam.put_user_policy(
                UserName=user,
                PolicyName=POLICY,
                PolicyDocument=json.dumps(policy(self._settings, tenant)),
            )
            made = self._iam.create_access_key(UserName=user)["AccessKey"]
        except _ERRORS as error:
            raise _translated(error, f"make a storage key for tenant {tenant}") from error
        credentials = Credentials(
            access_key_id=made["AccessKeyId"], secret_access_key=SecretStr(made["SecretAccessKey"])
        )
        self._wait_usable(tenant, credentials)
        return credentials

    def revoke(self, tenant: str) -> None:
        user = user_name(self._settings, tenant)
        iam = self._iam
        try:
            with _unless_missing():
                for key in self._keys(user):
                    iam.delete_access_key(UserName=user, AccessKeyId=key["AccessKeyId"])
            with _unless_missing():
                iam.delete_user_policy(UserName=user, PolicyName=POLICY)
            with _unless_missing():
                iam.delete_user(UserName=user)
        except _ERRORS as error:
            raise _translated(error, f"revoke the keys of tenant {tenant}") from error

    def _keys(self, user: str) -> list[AccessKeyMetadataTypeDef]:
        return self._iam.list_access_keys(UserName=user)["AccessKeyMetadata"]

    def _wait_usable(self, tenant: str, credentials: Credentials) -> None:
        """Wait until the key can list the tenant's own replicas."""
        client: S3Client = boto3.client(
            "s3",
            endpoint_url=self._settings.endpoint,
            aws_access_key_id=credentials.access_key_id,
            aws_secret_access_key=credentials.secret_access_key.get_secret_value(),
            region_name=self._settings.region,
            config=self._config(attempts=1),
        )
        deadline = self._now() + USABLE_WITHIN
        pause = 0.005
        while True:
            try:
                client.list_objects_v2(
                    Bucket=self._settings.bucket, Prefix=_epochs(self._settings, tenant), MaxKeys=1
                )
                return
            except _ERRORS as error:
                refused = isinstance(error, botocore.exceptions.ClientError)
                if (refused and _code(error) not in _NOT_YET) or self._now() > deadline:
                    what = f"use the new storage key of tenant {tenant}"
                    raise _translated(error, what) from error
            self._sleep(pause)
            pause = min(pause * 2, 0.5)

    def _config(self, *, attempts: int) -> Config:
        return Config(
            connect_timeout=self._settings.connect_timeout,
            read_timeout=self._settings.read_timeout,
            retries={"total_max_attempts": attempts, "mode": "standard"},
            s3={"addressing_style": "path"},
        )


def policy(settings: StoreSettings, tenant: str) -> dict[str, object]:
    """What a tenant's key allows: its own epochs, not its ownership record, nobody else's."""
    own = _epochs(settings, tenant)
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": [
                    "s3:GetObject",
                    "s3:PutObject",
                    "s3:DeleteObject",
                    "s3:AbortMultipartUpload",
                ],
                "Resource": f"arn:aws:s3:::{settings.bucket}/{own}*",
            },
            {
                "Effect": "Allow",
                "Action": ["s3:ListBucket"],
                "Resource": f"arn:aws:s3:::{settings.bucket}",
                "Condition": {"StringLike": {"s3:prefix": [f"{own}*"]}},
            },
        ],
    }


def user_name(settings: StoreSettings, tenant: str) -> str:
    """The IAM user of a tenant: unique for bucket, fleet and tenant, at most 64 characters.

    Names are readable, but cut to fit; the digest keeps two that are cut alike apart.
    """
    keys.check_tenant(tenant)
    place = f"{settings.bucket}/{settings.prefix}/{tenant}"
    digest = hashlib.sha256(place.encode()).hexdigest()[:12]
    return f"{_FORBIDDEN.sub('-', f'{settings.prefix}.{tenant}')[:51]}.{digest}"


def keys_to_drop(have: Iterable[AccessKeyMetadataTypeDef]) -> list[str]:
    """Which keys must go so that there is room for one more: the oldest ones.

    SeaweedFS does not say when a key was made, but lists them in that order.
    """
    oldest_first = sorted(have, key=lambda key: key.get("CreateDate", _LONG_AGO))
    return [key["AccessKeyId"] for key in oldest_first[: -(KEYS_PER_USER - 1) or None]]


def _epochs(settings: StoreSettings, tenant: str) -> str:
    return f"{settings.prefix}/{keys.epochs(tenant)}"


@contextlib.contextmanager
def _unless_missing() -> Iterator[None]:
    """Do something to a thing of the IAM API; nothing if it is not there."""
    try:
        yield
    except botocore.exceptions.ClientError as error:
        if _code(error) != _NO_SUCH:
            raise


_ERRORS = (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError)


def _code(error: Exception) -> str:
    response = getattr(error, "response", {})
    return str(response.get("Error", {}).get("Code", ""))


def _status(error: Exception) -> int:
    response = getattr(error, "response", {})
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _translated(error: Exception, what: str) -> StoreError:
    """The error in the store's own words, by what can be done about it."""
    if isinstance(error, botocore.exceptions.BotoCoreError):
        return Unreachable(f"Could not {what}: {error}")
    if _code(error) in _NOT_YET or _status(error) in (401, 403):
        return Denied(
            f"Could not {what}: the store refuses. The fleet's own key must be "
            "allowed to manage users; without an IAM API, let all tenants share one key."
        )
    return StoreError(f"Could not {what}: {error}")
