"""An object store that the user brings: its address from the command line, its key from the
environment, so that a secret is never an argument that other users can read in `ps`."""

from __future__ import annotations

import os
from collections.abc import Mapping

from pydantic import SecretStr, ValidationError

from backup.settings import Credentials, StoreSettings
from fleet.problem import Problem

_KEYS = (
    ("LITEFLEET_S3_ACCESS_KEY_ID", "LITEFLEET_S3_SECRET_ACCESS_KEY"),
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
)


def credentials(environment: Mapping[str, str] = os.environ) -> Credentials:
    """The access key for the store. Raises Problem when there is none, or only half of one."""
    for id_name, secret_name in _KEYS:
        key_id, secret = environment.get(id_name), environment.get(secret_name)
        if key_id and secret:
            return Credentials(access_key_id=key_id, secret_access_key=SecretStr(secret))
        if key_id or secret:
            missing = secret_name if key_id else id_name
            raise Problem(
                "half_credentials",
                f"Of the store's access key only one half is set: {missing} is missing.",
                f"Set both {id_name} and {secret_name}.",
            )
    raise Problem(
        "no_credentials",
        "There are no credentials for the store in the environment.",
        "Set LITEFLEET_S3_ACCESS_KEY_ID and LITEFLEET_S3_SECRET_ACCESS_KEY (or AWS_ACCESS_KEY_ID "
        "and AWS_SECRET_ACCESS_KEY).",
    )


def external_store(
    url: str,
    bucket: str,
    region: str,
    prefix: str,
    environment: Mapping[str, str] = os.environ,
) -> StoreSettings:
    """The store at `url`. Raises Problem where the address, bucket or key cannot be right."""
    key = credentials(environment)
    try:
        return StoreSettings(
            endpoint=url, bucket=bucket, region=region, prefix=prefix, credentials=key
        )
    except ValidationError as error:
        first = error.errors()[0]
        option = {"endpoint": "--s3", "bucket": "--bucket", "prefix": "--name"}.get(
            str(first["loc"][0]), str(first["loc"][0])
        )
        reason = str(first["msg"]).removeprefix("Value error, ")
        raise Problem(
            "bad_store", f"{option} {first['input']!r} cannot be used: {reason}."
        ) from error
