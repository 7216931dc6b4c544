"""What happens to the node's processes, and to whoever takes its tenant over."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal

from backup import keys
from backup.litestream import binary, config
from node.order import NodeStatus
from tests.faults.lab import Lab, Verdict
from tests.faulty_store import Changed, Fault, Request, cut_short
from tests.integration.node.conftest import all_gone


def send(pid: int, number: signal.Signals) -> None:
    """A signal to a process that may be gone already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


async def machine_lost(lab: Lab, moments: random.Random) -> Verdict:
    await asyncio.sleep(moments.uniform(1.0, 3.0))
    return await lab.judge()


async def signalled(
    lab: Lab,
    moments: random.Random,
    process: str,
    number: signal.Signals,
    times: int,
    pause: float = 0.0,
) -> Verdict:
    """A process of the node gets a signal, again and again; a stopped one goes on after `pause`."""
    for _ in range(times):
        await asyncio.sleep(moments.uniform(0.1, 0.6))
        pid = (await lab.status()).pids.get(process)
        if pid is None:
            continue
        send(pid, number)
        if number is signal.SIGSTOP:
            await asyncio.sleep(pause)
            send(pid, signal.SIGCONT)
        await lab.acknowledged(3)
    return await lab.judge()


async def supervisor_killed(lab: Lab, moments: random.Random) -> Verdict:
    """The host lives: the agent starts the node anew, on what the last one has left on the disk.
    All of it must be there. In the end the machine is lost as always."""
    for _ in range(2):
        await asyncio.sleep(moments.uniform(0.3, 0.8))
        await _supervisor_dies(lab, await lab.status())
        await lab.restarted()
        await lab.acknowledged(5)
    return await lab.judge()


async def _supervisor_dies(lab: Lab, status: NodeStatus) -> None:
    send(lab.node.pid, signal.SIGKILL)
    await all_gone([pid for name, pid in status.pids.items() if name != "supervisor"])


async def zombie(lab: Lab, moments: random.Random) -> Verdict:
    """All of the owner is frozen, another takes over, and the owner wakes up beside it."""
    await asyncio.sleep(moments.uniform(0.3, 1.0))
    frozen, status = lab.node, await lab.status()
    for pid in status.pids.values():
        send(pid, signal.SIGSTOP)
    await lab.host.start(lives_for=900.0, floor_txid=lab.proven, app="booking")
    await lab.node.serving()
    await lab.acknowledged(3)
    for pid in status.pids.values():
        send(pid, signal.SIGCONT)
    with contextlib.suppress(Exception):
        answer = await frozen.begin("late", steps=1)
        durable = answer.status_code == 201 and answer.json()["durable"]
        if durable:
            # What it says belongs into the ledger, and the bucket does not have it.
            lab.ledger.acknowledged["late"] = 0.0
    await lab.acknowledged(5)
    return await lab.judge()


async def two_sidecars(lab: Lab, moments: random.Random) -> Verdict:
    """Somebody starts a second Litestream by hand, on the same file and the same replica."""
    await asyncio.sleep(moments.uniform(0.3, 1.0))
    folder = lab.host.data / "second"
    folder.mkdir()
    prefix = keys.epoch("t", (await lab.status()).epoch)
    written = config.for_epoch(lab.near, prefix, lab.log, folder / "litestream.sock")
    written.write(folder / "litestream.yml")
    process = await asyncio.create_subprocess_exec(
        str(binary.find()),
        "replicate",
        "-config",
        str(folder / "litestream.yml"),
        env=config.environment(lab.near),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    await asyncio.sleep(4.0)
    process.kill()
    await process.wait()
    shutil.rmtree(folder)
    await lab.acknowledged(5)
    return await lab.judge()


async def lists_cut_short(lab: Lab, moments: random.Random) -> Verdict:
    """The first lists of the take-over show only a part, and say that this is all."""
    await asyncio.sleep(moments.uniform(0.0, 0.5))
    left = 6

    def policy(request: Request) -> Fault | None:
        nonlocal left
        if request.operation != "list" or "/epochs/" not in request.key or left == 0:
            return None
        left -= 1
        return Changed(cut_short(2))

    return await lab.judge(meanwhile=policy)


async def interrupted_at_each_request(lab: Lab, moments: random.Random) -> Verdict:
    """Machines that take over are lost at their first request to the store, their fifth, their
    ninth and so on, until one serves before its turn comes."""
    await lab.lose_the_machine()
    await lab.rest()
    turn = moments.randint(1, 4)
    while True:
        seen, reached = 0, asyncio.Event()

        def policy(_request: Request, turn: int = turn, reached: asyncio.Event = reached) -> None:
            nonlocal seen
            seen += 1
            if seen >= turn:
                reached.set()

        lab.proxy.policy = policy
        node = await lab.host.start(lives_for=300.0, floor_txid=lab.proven, app="booking")
        serving = asyncio.create_task(node.serving())
        waiting = asyncio.create_task(reached.wait())
        await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
        served = serving.done() and not serving.cancelled() and serving.exception() is None
        waiting.cancel()
        serving.cancel()
        await asyncio.gather(waiting, serving, return_exceptions=True)
        await lab.lose_the_machine()
        if served:
            break
        turn += 4
    return await lab.judge()
