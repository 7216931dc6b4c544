"""The client for plain code is the one for asyncio, without the waiting."""

from __future__ import annotations

import inspect

from node.client import AsyncClient, AsyncHandle, Client, Handle
from tests.unit.client.unasync import MADE, made


def test_the_plain_client_is_made_from_the_other() -> None:
    assert MADE.read_text(encoding="utf-8") == made()


def test_both_have_the_same_methods() -> None:
    for one, other in ((Client, AsyncClient), (Handle, AsyncHandle)):
        names = [name for name in vars(one) if not name.startswith("_")]
        assert names == [name for name in vars(other) if not name.startswith("_")]
        for name in names:
            mine, theirs = (inspect.signature(getattr(kind, name)) for kind in (one, other))
            assert list(mine.parameters) == list(theirs.parameters), name
