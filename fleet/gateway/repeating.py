"""Whether a request may be sent twice. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
"""Methods that have no more effect when they come twice."""
READING = re.compile(r"executions/[^/]+/queries/[^/]+|sql")
"""Paths of an engine to which POST changes nothing."""
KEYED = re.compile(r"executions/[^/]+/(?:signals|updates)/[^/]+")
"""Paths at which the header Idempotency-Key, or a key in the body, makes one of two."""


def repeatable(
    method: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    body: bytes | None,
) -> bool:
    """Whether an engine makes one of two such requests.

    Args:
        path: below the tenant's, without a slash before it.
        body: None where it is not kept, so that there is nothing to send again.
    """
    if body is None or path.partition("/")[0] == "webhooks":
        return False  # a webhook's handler is the tenant's own code, whatever the method
    if method in IDEMPOTENT:
        return True
    if method != "POST":
        return False
    if READING.fullmatch(path):
        return True
    if KEYED.fullmatch(path):
        return bool(headers.get("idempotency-key") or _fields(body).get("key"))
    if path == "executions":
        return _same_start(_fields(body))
    if re.fullmatch(r"workflows/[^/]+", path):
        return _same_start(query)
    return False


def _same_start(given: Mapping[str, object]) -> bool:
    """With the other values of ``reuse``, the second would be another start, or be refused."""
    return bool(given.get("id")) and given.get("reuse", "existing") == "existing"


def _fields(body: bytes) -> Mapping[str, object]:
    try:
        given = json.loads(body)
    except ValueError:
        return {}
    return given if isinstance(given, dict) else {}
