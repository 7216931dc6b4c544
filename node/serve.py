"""The engine's process: the tenant's code on the tenant's log, answering on a unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time

import uvicorn

from node.api import create_api
from node.api_metrics import MetricsApi
from node.authority import AuthorityView
from node.engine.application import load_app, load_kept
from node.engine.durability import Durability
from node.engine.engine import Engine, EngineConfig
from node.engine.errors import EngineError
from node.engine.lines import install
from node.engine.retention import Default
from node.engine.unwritable import advice
from node.idleness import Attended, watch
from node.link import SupervisorLink
from node.logs import BadLogSetting, LogFile, log_to_file
from node.order import EngineOrder
from node.otel import Telemetry
from node.wire import Client, WireError

LOOK_AT_LOG = 30.0
"""Seconds between two looks at how large the log of a silent engine is."""
FENCED_STATUS = 75
"""Exit status of an engine that learnt that its tenant belongs to somebody else."""


def serve(order: EngineOrder) -> None:
    """Run one engine until SIGTERM; exits with a status above 0 if it cannot go on."""
    try:
        asyncio.run(_serve(order))
    except (EngineError, WireError, BadLogSetting) as error:
        print(f"the engine of {order.tenant} cannot run: {error}", file=sys.stderr)
        sys.exit(1)


async def _serve(order: EngineOrder) -> None:
    loop = asyncio.get_running_loop()
    asked_to_stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, asked_to_stop.set)
    log = log_to_file(order.log, order.env)
    install(order.tenant, order.epoch)
    application = load_app(order.app)
    kept = tuple(load_kept(older, order.app) for older in order.kept)
    client = await Client.connect(order.supervisor_socket)
    link = SupervisorLink(client, lambda: engine.counts)
    telemetry = Telemetry.from_environment(
        order.env,
        tenant=order.tenant,
        lineage=order.lineage,
        epoch=order.epoch,
        application=application.name,
    )
    engine = Engine(
        EngineConfig(
            path=order.database,
            application=application,
            kept=kept,
            tenant=order.tenant,
            lineage=order.lineage,
            epoch=order.epoch,
            durability=Durability(order.durability),
            retention=Default.of(order.keep_closed, order.keep_history),
            inline_limit=order.inline_limit,
            blob_limit=order.blob_limit,
        ),
        barrier=link,
        authority=AuthorityView(order.authority),
        on_commit=link.committed,
        on_fenced=_end_at_once,
        on_failed=_end_loudly,
        observer=None if telemetry is None else telemetry.observer,
    )
    if telemetry is not None:
        telemetry.attach(engine)
    async with engine:
        metrics = MetricsApi(engine)
        if telemetry is not None:
            telemetry.begin(metrics.families)
        # What is there already was proven with the epoch's base; telling of it as of now makes
        # the supervisor prove it once more, with the sequence that it does not know yet.
        link.committed(engine.sequence, time.time())
        attended = Attended(create_api(engine, log=order.log, metrics=metrics))
        server = uvicorn.Server(
            uvicorn.Config(
                attended,
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=3,
            )
        )
        listener = _listen(str(order.api_socket))
        serving = asyncio.create_task(server._serve(sockets=[listener]))
        lost = asyncio.create_task(link.lost.wait())
        stop = asyncio.create_task(asked_to_stop.wait())
        looks = asyncio.create_task(_look_after(log))
        rests = asyncio.create_task(watch(engine, attended, link.idle))
        await asyncio.wait([serving, lost, stop], return_when=asyncio.FIRST_COMPLETED)
        if lost.done():
            # Without a supervisor nothing can be proven and nobody watches the deadline.
            os._exit(1)
        server.should_exit = True
        await serving
        # What is under way now goes on as soon as an engine opens the log again.
        with contextlib.suppress(WireError):
            await link.resting(engine.next_wake if engine.at_rest() else time.time())
        for task in (lost, stop, looks, rests):
            task.cancel()
        if telemetry is not None:
            await telemetry.end()
    await client.close()


async def _look_after(log: LogFile) -> None:
    """What the code prints is bounded, too."""
    while True:
        await asyncio.sleep(LOOK_AT_LOG)
        log.look()


def _listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Bound under another name first: whoever sees the socket can connect to it at once.
    listener.bind(path + "~")
    os.chmod(path + "~", 0o600)
    listener.listen(512)
    listener.setblocking(False)
    os.rename(path + "~", path)
    return listener


def _end_at_once() -> None:
    os._exit(FENCED_STATUS)


def _end_loudly(error: BaseException) -> None:
    # One line: it is what the supervisor reports as the engine's last words.
    words = f"the engine failed: {type(error).__name__}: {error}. {advice(error)}"
    print(words, file=sys.stderr, flush=True)
    os._exit(1)
