"""An application that tries what a tenant's code could try, and one that has effects outside."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import time
from pathlib import Path

import httpx

from node import activity, workflow


@activity
def read(path: str) -> str:
    """What comes of reading a file: ``open``, or the name of the error."""
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "open"


@activity
def write(path: str) -> str:
    """What comes of making a file."""
    try:
        with open(path, "wb") as file:
            file.write(b"x")
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "open"


@activity
def whoami() -> list[int]:
    """User, group, and the pids of engine, cradle and supervisor."""
    cradle = os.getppid()
    line = Path(f"/proc/{cradle}/status").read_text()
    supervisor = int(line.split("PPid:")[1].split()[0])
    return [os.getuid(), os.getgid(), os.getpid(), cradle, supervisor]


@activity
def end(pid: int) -> str:
    """What comes of sending SIGKILL."""
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "sent"


@activity
def reach(host: str, port: int) -> str:
    """What comes of connecting somewhere."""
    try:
        socket.create_connection((host, port), timeout=2.0).close()
    except OSError as error:
        return type(error).__name__
    return "connected"


@activity
def multiply(count: int) -> int:
    """How many processes there can be; all of them are ended again."""
    children: list[int] = []
    try:
        for _ in range(count):
            pid = os.fork()
            if pid == 0:
                time.sleep(60)
                os._exit(0)
            children.append(pid)
    except OSError:
        pass
    for pid in children:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return len(children)


@activity
def eat(mark: str, megabytes: int) -> str:
    """Take so much memory, once: when it is run again after that, it says that it was."""
    if os.path.exists(mark):
        return "ended"
    Path(mark).touch()
    held = [b"x" * (1 << 20) for _ in range(megabytes)]
    return f"had {len(held)}"


@activity
async def effect(number: int) -> int:
    """Tell the receiver outside of the fleet, under the step's key."""
    info = activity.info()
    headers = {
        "idempotency-key": info.idempotency_key,
        "litefleet-tenant": os.environ["TENANT"],
        "litefleet-execution": info.execution,
        "litefleet-step": f"effect-{number}",
    }
    async with httpx.AsyncClient(timeout=5.0) as http:
        answer = await http.post(
            f"{os.environ['RECEIVER']}/effects",
            # The receiver can tell by it who was at work.
            json={"number": number, "host": socket.gethostname()},
            headers=headers,
        )
    answer.raise_for_status()
    return number


@workflow
async def try_read(path: str) -> str:
    return await read(path)


@workflow
async def try_write(path: str) -> str:
    return await write(path)


@workflow
async def look() -> list[int]:
    return await whoami()


@workflow
async def try_end(pid: int) -> str:
    return await end(pid)


@workflow
async def try_reach(host: str, port: int) -> str:
    return await reach(host, port)


@workflow
async def try_multiply(count: int) -> int:
    return await multiply(count)


@workflow
async def try_eat(mark: str, megabytes: int) -> str:
    return await eat(mark, megabytes)


@workflow
async def act(steps: int, pause: float) -> int:
    """So many effects, one after another."""
    total = 0
    for number in range(steps):
        total += await effect(number)
        await workflow.sleep(pause)
    return total
