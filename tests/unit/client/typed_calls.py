"""What mypy says of calls through the client. Only mypy runs it: each wrong call is marked, and a
mark on a call that is not refused is itself refused (warn_unused_ignores)."""

from __future__ import annotations

from typing import assert_type

from pydantic import BaseModel

from node import Signal, workflow
from node.client import AsyncClient, AsyncHandle, Client, Handle
from node.engine.events import Reuse


class Greeting(BaseModel):
    text: str


@workflow
async def greet(name: str, times: int = 1) -> Greeting:
    return Greeting(text=name * times)


approved = Signal("approved", bool)


def plain(client: Client) -> None:
    handle = client.start(greet, "Grace", times=2)
    assert_type(handle, Handle[Greeting])
    assert_type(handle.result(), Greeting)
    assert_type(client.start("greet", {"name": "Grace"}).result().text, object)  # type: ignore[assert-type]
    assert_type(client.handle("a", greet).result(wait=1), Greeting)
    assert_type(handle.query("size", type=int), int)
    handle.signal(approved, True)
    handle.signal("approved", "any")
    client.using(id="a", reuse=Reuse.REJECT, labels={"customer": "acme"}).start(greet, name="x")
    list(client.executions(status="failed", workflow=greet, labels={"customer": "acme"}))

    client.start(greet, 7)  # type: ignore[call-overload]
    client.start(greet, name=7)  # type: ignore[call-overload]
    client.start(greet, nam="Grace")  # type: ignore[call-overload]
    client.start(greet)  # type: ignore[call-overload]
    client.start(greet, "Grace", times="two")  # type: ignore[arg-type]
    client.start("greet", name="Grace")  # type: ignore[call-overload]
    client.using(idd="a")  # type: ignore[call-arg]
    client.using(labels={"customer": 7})  # type: ignore[dict-item]
    client.executions(workflows=greet)  # type: ignore[call-arg]
    text: str = handle.result()  # type: ignore[assignment]
    print(text)


async def awaited(client: AsyncClient) -> None:
    handle = await client.start(greet, name="Grace")
    assert_type(handle, AsyncHandle[Greeting])
    assert_type(await handle.result(), Greeting)
    async for one in client.executions(workflow=greet):
        assert_type(one.id, str)
    async for item in handle.follow("tokens"):
        assert_type(item.offset, int)
    await client.start(greet, name=7)  # type: ignore[call-overload]
    await client.start(greet, "Grace", 1, 2)  # type: ignore[call-overload]
    await handle.query("size", type=int, inputs={})  # type: ignore[call-overload]
