"""Which requests may come twice: only those of which an engine makes one."""

from __future__ import annotations

import json

import pytest

from fleet.gateway.repeating import repeatable

YES = [
    ("GET", "executions/a", {}, {}, b""),
    ("PUT", "schedules/a", {}, {}, b"{}"),
    ("DELETE", "executions/a", {}, {}, b""),
    ("POST", "executions", {}, {}, b'{"workflow": "w", "id": "a"}'),
    ("POST", "executions", {}, {}, b'{"workflow": "w", "id": "a", "reuse": "existing"}'),
    ("POST", "workflows/w", {"id": "a"}, {}, b"{}"),
    ("POST", "executions/a/signals/s", {}, {"idempotency-key": "k"}, b"{}"),
    ("POST", "executions/a/signals/s", {}, {}, b'{"key": "k"}'),
    ("POST", "executions/a/updates/u", {}, {"idempotency-key": "k"}, b"{}"),
    ("POST", "executions/a/queries/q", {}, {}, b"{}"),
    ("POST", "sql", {}, {}, b'{"sql": "select 1"}'),
]
NO = [
    ("GET", "executions/a", {}, {}, None),
    ("GET", "webhooks/a", {}, {}, b""),
    ("PUT", "webhooks/a", {}, {"idempotency-key": "k"}, b""),
    ("PATCH", "anything", {}, {}, b"{}"),
    ("POST", "executions", {}, {}, b'{"workflow": "w"}'),
    ("POST", "executions", {}, {"idempotency-key": "k"}, b'{"workflow": "w"}'),
    ("POST", "executions", {}, {}, b'{"workflow": "w", "id": "a", "reuse": "terminate"}'),
    ("POST", "executions", {}, {}, b"[]"),
    ("POST", "executions", {}, {}, b"\xff"),
    ("POST", "executions/a/signals/s", {}, {}, b"{}"),
    ("POST", "executions/a/retry", {}, {"idempotency-key": "k"}, b"{}"),
    ("POST", "workflows/w", {}, {}, json.dumps({"id": "a"}).encode()),
    ("POST", "workflows/w", {"id": "a", "reuse": "reject"}, {}, b"{}"),
    ("POST", "bulk", {}, {"idempotency-key": "k"}, b"{}"),
]


@pytest.mark.parametrize("given", YES)
def test_what_an_engine_makes_one_of_may_come_twice(given: tuple) -> None:  # type: ignore[type-arg]
    assert repeatable(*given)


@pytest.mark.parametrize("given", NO)
def test_anything_else_may_not(given: tuple) -> None:  # type: ignore[type-arg]
    assert not repeatable(*given)
