"""Where the bucket is and how to reach it."""

from __future__ import annotations

import re

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    SerializationInfo,
    field_serializer,
    field_validator,
)

REVEAL = {"reveal": True}
"""Context for ``model_dump``: without it secrets are written as stars, so that a settings object
in a log or an error message gives nothing away."""

_FLEET = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:/coordinator)?")


class Credentials(BaseModel):
    """An access key of an S3-compatible store."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    access_key_id: str = Field(min_length=1)
    secret_access_key: SecretStr

    @field_serializer("secret_access_key")
    def _hide(self, value: SecretStr, info: SerializationInfo) -> str:
        return reveal(value, info)


def reveal(value: SecretStr, info: SerializationInfo) -> str:
    """The secret, if the caller asked for it with `REVEAL`; stars otherwise."""
    if info.context and info.context.get("reveal"):
        return value.get_secret_value()
    return str(value)


class Encryption(BaseModel):
    """Encryption by the store itself, asked for with every object that is written: under the KMS
    key ``kms_key_id``. (For the store's own keys, SSE-S3, set the bucket's default encryption: it
    then holds for what Litestream writes too, which has no setting for it.)"""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kms_key_id: str = Field(min_length=1)


class StoreSettings(BaseModel):
    """One fleet's place in an S3-compatible store.

    ``prefix`` is the fleet's name: every key of the fleet begins with it, so that several fleets
    can share a bucket. ``encryption`` is what the store is asked to encrypt objects with.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: str = Field(description="base URL of the S3 API, e.g. http://127.0.0.1:8333")
    bucket: str = Field(min_length=3, max_length=63)
    region: str = "us-east-1"
    prefix: str = Field(default="fleet", description="the fleet's name, the root of its keys")
    credentials: Credentials
    connect_timeout: float = Field(default=1.5, gt=0, description="seconds")
    read_timeout: float = Field(default=3.0, gt=0, description="seconds without an answer")
    encryption: Encryption | None = None

    @field_validator("endpoint")
    @classmethod
    def _http(cls, value: str) -> str:
        if not re.fullmatch(r"https?://[^/\s]+/?", value):
            raise ValueError("must look like http://host:port or https://host")
        return value.rstrip("/")

    @field_validator("prefix")
    @classmethod
    def _name(cls, value: str) -> str:
        if not _FLEET.fullmatch(value):
            raise ValueError("must be 1 to 63 of a-z, 0-9 and '-', not at either end")
        return value

    @property
    def of_coordinators(self) -> StoreSettings:
        """The place of the fleet whose hosts are this fleet's coordinators."""
        return self.model_copy(update={"prefix": f"{self.prefix}/coordinator"})

    def reached_with(self, credentials: Credentials) -> StoreSettings:
        """The same place, reached with other credentials."""
        return self.model_copy(update={"credentials": credentials})

    def without_credentials(self) -> StoreSettings:
        """The same place, for somebody who shall not get in."""
        return self.reached_with(
            Credentials(access_key_id="none", secret_access_key=SecretStr("none"))
        )
