"""The client for plain code is the one for asyncio, without the waiting."""

from __future__ import annotations

import inspect

import pytest

from node.client import (
    AsyncClient,
    AsyncHandle,
    AsyncQueues,
    AsyncSchedules,
    Client,
    Handle,
    Queues,
    Schedules,
)
from tests.unit.client.unasync import MODULES, made, path


@pytest.mark.parametrize("module", MODULES)
def test_the_plain_client_is_made_from_the_other(module: str) -> None:
    assert path(module, "plain").read_text(encoding="utf-8") == made(module)


def test_both_have_the_same_methods() -> None:
    for one, other in (
        (Client, AsyncClient),
        (Handle, AsyncHandle),
        (Schedules, AsyncSchedules),
        (Queues, AsyncQueues),
    ):
        names = [name for name in vars(one) if not name.startswith("_")]
        assert names == [name for name in vars(other) if not name.startswith("_")]
        for name in names:
            if isinstance(getattr(one, name), property):
                continue
            mine, theirs = (inspect.signature(getattr(kind, name)) for kind in (one, other))
            assert list(mine.parameters) == list(theirs.parameters), name
