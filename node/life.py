"""The supervisor's process: from its fork or exec to its exit.

It is told what to do over ``control.sock`` in its folder of sockets, by the host agent: ``start``
with an order, ``status``, ``chain``, ``copy``, ``export``, ``extend``, ``check`` and
``check_status``, ``upgrade``, ``drain``, ``fence``, and ``bye`` once the agent has seen the end. It
lives in a session of its own and does not end with the agent, but with its deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

from backup.sealing import Key
from node.cradle import Cradle, fork_cradle
from node.order import ENDED, NodeOrder
from node.serve import serve
from node.supervisor import Supervisor
from node.wire import Message, Server

ORDER_TIMEOUT = 30.0
"""Seconds that a fresh supervisor waits for its order."""
FAREWELL_TIMEOUT = 15.0
"""Seconds that an ended one waits for somebody to read its last status."""


def supervise(sockets: Path) -> None:
    """Run one supervisor process to its end. Call it before threads and event loops exist."""
    # Signals for the whole terminal are the agent's business: it drains its nodes in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    cradle = fork_cradle(serve)
    asyncio.run(_live(sockets, cradle))


async def _live(sockets: Path, cradle: Cradle) -> None:
    await _Life(sockets, cradle).run()


class _Life:
    def __init__(self, sockets: Path, cradle: Cradle):
        self._sockets = sockets
        self._cradle = cradle
        self._ordered: asyncio.Future[Supervisor] = asyncio.get_running_loop().create_future()
        self._farewell = asyncio.Event()

    async def run(self) -> None:
        await self._cradle.attach()
        server = Server(self._sockets / "control.sock", self._answer)
        await server.start()
        try:
            with contextlib.suppress(TimeoutError):
                supervisor = await asyncio.wait_for(self._ordered, ORDER_TIMEOUT)
                await supervisor.run()
                await asyncio.wait_for(self._farewell.wait(), FAREWELL_TIMEOUT)
        finally:
            await server.close()

    async def _answer(self, op: str, message: Message) -> Message:
        if op == "start":
            if self._ordered.done():
                raise ValueError("this node has its order already")
            order = NodeOrder.model_validate(message["order"])
            supervisor = Supervisor(order, Path(message["folder"]), self._sockets, self._cradle)
            self._ordered.set_result(supervisor)
            return supervisor.look().model_dump()
        if not self._ordered.done():
            raise ValueError("this node has no order yet")
        supervisor = self._ordered.result()
        if op == "status":
            status = await supervisor.look_after(
                int(message.get("after", -1)), float(message.get("wait", 0.0))
            )
            return status.model_dump()
        if op == "check":
            check = supervisor.checks.begin(str(message["app"]), tuple(message["kept"]))
            return check.model_dump(mode="json")
        if op == "check_status":
            found = await supervisor.checks.look(float(message.get("wait", 0.0)))
            return {"check": found.model_dump(mode="json") if found else None}
        if op == "chain":
            return {"chain": await supervisor.chain_at(int(message["sequence"]))}
        if op == "copy":
            key = message.get("key")
            return (await supervisor.copy(Key.model_validate(key) if key else None)).model_dump()
        if op == "export":
            return (await supervisor.export(Path(message["into"]))).model_dump()
        if op == "extend":
            supervisor.extend(float(message["deadline"]))
        elif op == "upgrade":
            supervisor.upgrade(str(message["app"]), tuple(message["kept"]), int(message["release"]))
        elif op == "drain":
            supervisor.drain()
        elif op == "fence":
            supervisor.fence()
        elif op == "bye":
            if supervisor.status.state in ENDED:
                self._farewell.set()
        else:
            raise ValueError(f"a node cannot {op!r}")
        return {}
