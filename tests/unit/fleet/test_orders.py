"""A host agent takes no orders from a coordinator whose time is over."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httpx
import pytest

from fleet.agent.agent import Agent
from fleet.agent.api import create_app
from fleet.proxy import COORDINATOR_EPOCH_HEADER


class Drained:
    """What is asked of an agent's nodes."""

    def __init__(self) -> None:
        self.drained: list[str] = []

    async def drain(self, tenant: str) -> None:
        self.drained.append(tenant)


@pytest.fixture
def agent() -> Any:
    one = cast(Any, Agent.__new__(Agent))
    one._coordinator_epoch = 0
    one.nodes = Drained()
    return one


async def order(agent: Any, epoch: int | None) -> int:
    headers = {"authorization": "Bearer token"}
    if epoch is not None:
        headers[COORDINATOR_EPOCH_HEADER] = str(epoch)
    transport = httpx.ASGITransport(create_app(agent, "token"))
    async with httpx.AsyncClient(transport=transport, base_url="http://agent") as client:
        return (await client.post("/api/nodes/acme/drain", headers=headers)).status_code


def test_an_order_of_an_earlier_epoch_is_refused(agent: Any) -> None:
    async def whole() -> list[int]:
        return [await order(agent, epoch) for epoch in (3, 3, 4, 3, 4, None)]

    assert asyncio.run(whole()) == [202, 202, 202, 409, 202, 202]
    assert len(agent.nodes.drained) == 5
