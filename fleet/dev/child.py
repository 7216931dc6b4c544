"""One life of a developer's engine: loads the code, waits to be let go, serves until it is told.

Its only argument is `Orders` as JSON. It reads one line from the control pipe before it opens the
log, so that the code is known to load while the engine before it still serves; the end of that
pipe is the order to stop. What happens goes out as lines of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

import apsw
import uvicorn
from pydantic import BaseModel

from fleet.application import trace_of
from fleet.dev.reporter import Reporter
from node.api import create_api
from node.api_metrics import MetricsApi
from node.engine.application import Application, find_app, load_kept
from node.engine.config import EngineConfig
from node.engine.durability import Outcome, Proof
from node.engine.engine import Engine
from node.engine.errors import EngineError
from node.engine.inspection import owner_of
from node.engine.observer import Observer, Observers
from node.engine.releases import Releases
from node.logs import BadLogSetting, Teller, log_with
from node.otel import Telemetry

#: Exit status of a life that could not begin; why was said in a line `refused`.
REFUSED: Final = 3


class Orders(BaseModel):
    """What to run. The last three are numbers of open files that the process inherits."""

    app: str
    kept: tuple[str, ...] = ()
    database: Path
    practice: bool = False
    listener: int
    control: int
    events: int


class Practice:
    """Takes the disk of this machine for the bucket: what is committed counts as proven."""

    async def prove(self, sequence: int) -> Proof:
        return Proof(Outcome.DURABLE)


class _Lines:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def send(self, line: dict[str, Any]) -> None:
        try:
            os.write(self._descriptor, (json.dumps(line, default=str) + "\n").encode())
        except BrokenPipeError:
            os._exit(1)  # nobody is there any more


def main(orders: Orders) -> int:
    """Live one life; the exit status."""
    lines = _Lines(orders.events)
    try:
        log_with(Teller(lambda line: lines.send(_logged(line))), os.environ)
    except BadLogSetting as error:
        lines.send({"event": "refused", "at": time.time(), **_refusal(error), "hint": None})
        return REFUSED
    try:
        application = find_app(orders.app)
        kept = tuple(load_kept(one, orders.app) for one in orders.kept)
        Releases(application, kept)
    except Exception as error:
        lines.send({"event": "refused", "at": time.time(), **_refusal(error)})
        return REFUSED
    lines.send({"event": "loaded", "at": time.time(), "workflows": sorted(application.workflows)})
    if os.read(orders.control, 1) == b"":
        return 0
    try:
        asyncio.run(_serve(orders, application, kept, lines))
    except EngineError as error:
        lines.send({"event": "refused", "at": time.time(), **_refusal(error)})
        return REFUSED
    return 0


async def _serve(
    orders: Orders, application: Application, kept: tuple[Application, ...], lines: _Lines
) -> None:
    path, create = orders.database, not orders.database.exists()
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)
        tenant, lineage = "dev", token_hex(8)
    else:
        tenant, lineage, *_ = owner_of(path)
        _fold(path)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(orders.control, stop.set)
    reporter = Reporter(lines.send)

    def failed(error: BaseException) -> None:
        lines.send({"event": "failed", "at": time.time(), **_refusal(error)})
        os._exit(1)

    telemetry = Telemetry.from_environment(
        os.environ, tenant=tenant, lineage=lineage, epoch=1, application=application.name
    )
    observers: list[Observer] = [reporter]
    if telemetry is not None:
        observers.append(telemetry.observer)
    engine = Engine(
        EngineConfig(
            path=path,
            application=application,
            kept=kept,
            tenant=tenant,
            lineage=lineage,
            create=create,
        ),
        barrier=Practice() if orders.practice else None,
        on_failed=failed,
        observer=Observers(observers),
    )
    if telemetry is not None:
        telemetry.attach(engine)
    await engine.open()
    reporter.engine = engine
    metrics = MetricsApi(engine)
    if telemetry is not None:
        telemetry.begin(metrics.families)
    lines.send({"event": "open", "at": time.time(), "executions": engine.counts})
    reporter.look()
    server = uvicorn.Server(
        uvicorn.Config(
            create_api(engine, metrics=metrics),
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=2,
        )
    )
    serving = asyncio.create_task(server._serve(sockets=[socket.socket(fileno=orders.listener)]))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    loop.remove_reader(orders.control)
    if telemetry is not None:
        await telemetry.end()
    # The engine first: whoever waits for a result is answered that it has stopped.
    await engine.close()
    server.should_exit = True
    await serving
    stopping.cancel()


def _logged(line: dict[str, Any]) -> dict[str, Any]:
    """A line of the log among the others."""
    about = {name: value for name, value in line.items() if name not in ("time", "tenant", "epoch")}
    return {"event": "log", "at": time.time(), **about}


def _fold(path: Path) -> None:
    """Take the write-ahead log into the file, which nobody else does here."""
    db = apsw.Connection(str(path))
    try:
        tables = db.execute("SELECT 1 FROM sqlite_schema WHERE name = '_litestream_seq'").fetchall()
        # A log that has a replica is its sidecar's to checkpoint.
        if not tables:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except apsw.Error:
        pass  # Damaged or in use: the engine says which.
    finally:
        db.close()


def _refusal(error: BaseException) -> dict[str, Any]:
    if isinstance(error, EngineError):
        return {"type": type(error).__name__, "message": str(error), "hint": error.hint}
    return {
        "type": type(error).__name__,
        "message": str(error) or type(error).__name__,
        "hint": "Mend the code and save it.",
        "trace": trace_of(error),
    }


if __name__ == "__main__":
    # Ctrl-C in the terminal is for the parent, which then tells.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(main(Orders.model_validate_json(sys.argv[1])))
