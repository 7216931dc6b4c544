"""Names, policies and the choice of keys to drop, without a store."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from backup.keys import BadTenantName
from backup.settings import Credentials, StoreSettings
from fleet.issuer import SharedIssuer, keys_to_drop, policy, user_name

KEY = Credentials(access_key_id="AK", secret_access_key=SecretStr("SK"))


def settings(prefix: str = "demo", bucket: str = "bucket") -> StoreSettings:
    return StoreSettings(
        endpoint="http://127.0.0.1:1", bucket=bucket, prefix=prefix, credentials=KEY
    )


def test_a_user_is_one_tenant_of_one_fleet_in_one_bucket() -> None:
    places = [
        user_name(settings(prefix, bucket), tenant)
        for bucket in ("bucket", "other")
        for prefix in ("demo", "de-mo", "x" * 63)
        for tenant in ("a", "a-b", "t" + "x" * 39)
    ]
    assert len(set(places)) == len(places)
    for name in places:
        assert re.fullmatch(r"[A-Za-z0-9+=,.@_-]{1,64}", name)  # what AWS allows
    assert user_name(settings(), "a").startswith("demo.a.")


def test_no_policy_is_made_for_a_name_that_is_a_pattern() -> None:
    """`*` as a tenant would open every prefix."""
    for name in ("*", "a*", "a/../b", ""):
        with pytest.raises(BadTenantName):
            user_name(settings(), name)


def test_the_policy_names_the_own_epochs_only() -> None:
    text = repr(policy(settings(), "a"))
    assert set(re.findall(r"arn:aws:s3:::[^']*", text)) == {
        "arn:aws:s3:::bucket",
        "arn:aws:s3:::bucket/demo/tenants/a/epochs/*",
    }
    assert "'s3:prefix': ['demo/tenants/a/epochs/*']" in text


def test_the_oldest_keys_make_room() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    have = [
        {"AccessKeyId": name, "CreateDate": start + timedelta(seconds=age)}
        for name, age in (("new", 3), ("old", 1), ("middle", 2))
    ]
    assert keys_to_drop([]) == []
    assert keys_to_drop([have[0]]) == []  # type: ignore[list-item]
    assert keys_to_drop(have[:2]) == ["old"]  # type: ignore[arg-type]
    assert keys_to_drop(have) == ["old", "middle"]  # type: ignore[arg-type]
    undated = [{"AccessKeyId": name} for name in ("z", "a", "m")]
    assert keys_to_drop(undated) == ["z", "a"]  # type: ignore[arg-type]


def test_the_shared_key_is_everyones() -> None:
    issuer = SharedIssuer(KEY)
    issuer.revoke("a")
    assert issuer.issue("a") is issuer.issue("b") is KEY
