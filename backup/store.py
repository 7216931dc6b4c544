"""The object store: a few conditional operations with typed errors, over boto3.

Calls block; async callers run them in a thread. Reads, lists and deletes are retried here, since
repeating them is harmless. Writes are not: a write without an answer is `Ambiguous`, and only its
caller knows how to resolve that (see `backup.records`).
"""

from __future__ import annotations

import email.utils
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import botocore.exceptions
import tenacity
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig

from backup.client import client
from backup.errors import (
    Ambiguous,
    Conflict,
    Denied,
    NotFound,
    Precondition,
    StoreError,
    Throttled,
    Unreachable,
    Unsupported,
)
from backup.settings import StoreSettings

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

T = TypeVar("T")
Versioning = Literal["off", "enabled", "suspended", "unknown"]
"""Suspended: what was written before is kept still. Unknown: the fleet's key may not ask."""

READ_ATTEMPTS = 3
"""How often a read is tried before its error is raised; with back-off, at most about 10 s."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as it was read."""

    body: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class Entry:
    """An object in a list. ``key`` is relative to the fleet's prefix; ``size`` in bytes."""

    key: str
    size: int
    modified: datetime


class ObjectStore(Protocol):
    """What the fleet needs of a store. All keys are relative to the fleet's prefix.

    Every method raises subclasses of `StoreError`.
    """

    def get(self, key: str) -> Stored:
        """Read an object, never from a cache. Raises `NotFound` if there is none."""

    def get_part(self, key: str, start: int, length: int) -> bytes:
        """At most ``length`` bytes of an object from ``start``; fewer where it ends, none beyond.

        Raises `NotFound` if there is no such object.
        """

    def put(
        self, key: str, body: bytes, *, if_match: str | None = None, if_none_match: bool = False
    ) -> str:
        """Write an object and return its ETag.

        ``if_match`` writes only over that ETag, ``if_none_match`` only where nothing is
        (`Precondition` otherwise). Raises `Ambiguous` where the outcome is unknown.
        """

    def upload(self, key: str, file: Path) -> None:
        """Write a file of any size as one object, in parts where it is large.

        Raises `Ambiguous` where the outcome is unknown; what is there is whole or not there.
        """

    def download(self, key: str, file: Path) -> None:
        """Read an object of any size into a new file. Raises `NotFound` if there is none."""

    def list(self, prefix: str) -> Iterator[Entry]:
        """Every object under ``prefix``, all pages. A list is not an atomic snapshot."""

    def prefixes(self, prefix: str) -> Iterator[str]:
        """The names of the "folders" directly under ``prefix``."""

    def delete(self, key: str) -> None:
        """Remove an object; no error if there is none."""

    def versioning(self) -> Versioning:
        """Whether the bucket keeps what is removed or written over."""

    def date(self) -> datetime:
        """The store's clock, from the ``Date`` header of an answer (resolution: one second)."""


# One thread: several would compete with the tenants for the same processors.
_TRANSFERS = TransferConfig(
    multipart_threshold=32 << 20, multipart_chunksize=16 << 20, use_threads=False
)


class S3Store:
    """`ObjectStore` on any S3-compatible service that honours conditional writes."""

    def __init__(self, settings: StoreSettings, read_attempts: int = READ_ATTEMPTS):
        self.settings = settings
        self._read_attempts = read_attempts
        self._bucket = settings.bucket
        self._root = settings.prefix + "/"
        self._encrypted: dict[str, Any] = {}
        if settings.encryption is not None:
            self._encrypted = {
                "ServerSideEncryption": "aws:kms",
                "SSEKMSKeyId": settings.encryption.kms_key_id,
            }
        self._client: S3Client = client(settings)

    def get(self, key: str) -> Stored:
        def read() -> Stored:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._root + key)
            return Stored(answer["Body"].read(), answer["ETag"])

        return self._read(key, read)

    def url(self, key: str, seconds: int) -> str:
        """Where a bare GET reads an object for so many seconds, without any key. Asks nobody."""
        return self._client.generate_presigned_url(
            "get_object",
            Params={"Bucket": self._bucket, "Key": self._root + key},
            ExpiresIn=seconds,
        )

    def get_part(self, key: str, start: int, length: int) -> bytes:
        def read() -> bytes:
            try:
                answer = self._client.get_object(
                    Bucket=self._bucket,
                    Key=self._root + key,
                    Range=f"bytes={start}-{start + length - 1}",
                )
            except botocore.exceptions.ClientError as error:
                if error.response.get("Error", {}).get("Code") in ("InvalidRange", "416"):
                    return b""
                raise
            return answer["Body"].read()

        return self._read(key, read)

    def put(
        self, key: str, body: bytes, *, if_match: str | None = None, if_none_match: bool = False
    ) -> str:
        condition: dict[str, Any] = dict(self._encrypted)
        if if_match is not None:
            condition["IfMatch"] = if_match
        if if_none_match:
            condition["IfNoneMatch"] = "*"
        try:
            answer = self._client.put_object(
                Bucket=self._bucket, Key=self._root + key, Body=body, **condition
            )
        except Exception as error:
            raise typed(error, f"write {self._root}{key}") from error
        return answer["ETag"]

    def upload(self, key: str, file: Path) -> None:
        try:
            self._client.upload_file(
                str(file),
                self._bucket,
                self._root + key,
                Config=_TRANSFERS,
                ExtraArgs=self._encrypted,
            )
        except Exception as error:
            raise typed(error, f"upload {self._root}{key}") from error

    def download(self, key: str, file: Path) -> None:
        def read() -> None:
            self._client.download_file(self._bucket, self._root + key, str(file), Config=_TRANSFERS)

        self._read(key, read)

    def list(self, prefix: str) -> Iterator[Entry]:
        token: str | None = None
        while True:
            page = self._page(prefix, token)
            for item in page.get("Contents", []):
                key = item["Key"].removeprefix(self._root)
                yield Entry(key, item["Size"], item["LastModified"])
            token = page.get("NextContinuationToken")
            if not page.get("IsTruncated") or token is None:
                return

    def prefixes(self, prefix: str) -> Iterator[str]:
        token: str | None = None
        while True:
            page = self._page(prefix, token, Delimiter="/")
            for item in page.get("CommonPrefixes", []):
                yield item["Prefix"].removeprefix(self._root + prefix).rstrip("/")
            token = page.get("NextContinuationToken")
            if not page.get("IsTruncated") or token is None:
                return

    def _page(self, prefix: str, token: str | None, **more: Any) -> Any:
        if token is not None:
            more["ContinuationToken"] = token
        return self._read(
            prefix,
            lambda: self._client.list_objects_v2(
                Bucket=self._bucket, Prefix=self._root + prefix, **more
            ),
        )

    def delete(self, key: str) -> None:
        self._read(
            key, lambda: self._client.delete_object(Bucket=self._bucket, Key=self._root + key)
        )

    def versioning(self) -> Versioning:
        try:
            answer = self._read("", lambda: self._client.get_bucket_versioning(Bucket=self._bucket))
        except (Denied, Unsupported):
            return "unknown"
        status = answer.get("Status", "")
        return {"Enabled": "enabled", "Suspended": "suspended"}.get(status, "off")  # type: ignore[return-value]

    def date(self) -> datetime:
        answer = self._read("", lambda: self._client.head_bucket(Bucket=self._bucket))
        header = answer["ResponseMetadata"]["HTTPHeaders"].get("date", "")
        try:
            return email.utils.parsedate_to_datetime(header)
        except ValueError as error:
            raise Unsupported("the store's answers carry no Date header") from error

    def _read(self, key: str, call: Callable[[], T]) -> T:
        def once() -> T:
            try:
                return call()
            except Exception as error:
                raise typed(error, f"reach {self._root}{key}") from error

        retrying: tenacity.Retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((Throttled, Unreachable, Ambiguous)),
            stop=tenacity.stop_after_attempt(self._read_attempts),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=1.0),
            reraise=True,
        )
        return retrying(once)


def typed(error: Exception, what: str) -> StoreError:
    """Translate an error of botocore into the one that says what to do about it."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, S3UploadFailedError) and isinstance(error.__context__, Exception):
        # It hides what the store said behind a text.
        return typed(error.__context__, what)
    if isinstance(error, botocore.exceptions.ClientError):
        return _of_status(error, what)
    never_sent = (
        botocore.exceptions.EndpointConnectionError,
        botocore.exceptions.ConnectTimeoutError,
        botocore.exceptions.ProxyConnectionError,
    )
    if isinstance(error, never_sent):
        return Unreachable(f"could not {what}: {error}")
    transport = (botocore.exceptions.HTTPClientError, botocore.exceptions.ConnectionError, OSError)
    if isinstance(error, transport):
        return Ambiguous(f"no answer when trying to {what}: {error}")
    return Unsupported(f"could not {what}: {error}")


def _of_status(error: botocore.exceptions.ClientError, what: str) -> StoreError:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = error.response.get("Error", {}).get("Code", "")
    message = f"could not {what}: {code or status}"
    if status == 412 or code == "PreconditionFailed":
        return Precondition(message)
    if status == 409:
        return Conflict(message)
    if status == 404:
        return NotFound(message)
    if status in (401, 403):
        return Denied(message)
    if status == 429 or code in ("SlowDown", "Throttling", "TooManyRequests"):
        return Throttled(message)
    if status >= 500 or status == 408:
        return Ambiguous(message)
    return Unsupported(f"{message} ({status})")
