"""Where the engine of the coordinator's own log has the steps of operations carried out."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from backup.errors import StoreError
from fleet.coordinator.coordinator import Coordinator
from fleet.coordinator.restores import RestoreOperation, Told


class StepAsked(BaseModel):
    """A step of an operation, and what the step before it has said."""

    operation: RestoreOperation
    given: Told = {}


def steps_app(active: Callable[[], Coordinator | None]) -> FastAPI:
    """The application. Its socket lies in a folder that only this user may enter.

    Args:
        active: the coordinator while this is the active one. Without it, and until it knows the
            tenants, a step is answered 503 and tried again.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.post("/steps/{name}")
    async def step(name: str, asked: StepAsked) -> Response:
        coordinator = active()
        if coordinator is None or not coordinator.knows:
            return JSONResponse({"error": "no coordinator is active here"}, status_code=503)
        restores = coordinator.restores
        try:
            if name == "rehearse":
                told = await restores.rehearse(asked.operation)
            elif name == "want":
                told = await restores.want(asked.operation, asked.given)
            elif name == "follow":
                told = await restores.follow(asked.operation, asked.given)
            else:
                return JSONResponse({"error": f"there is no step {name}"}, status_code=404)
        except StoreError as error:
            return JSONResponse({"error": str(error)}, status_code=503)
        if active() is not coordinator:
            # What was found is not the word of the active coordinator: it is asked again.
            return JSONResponse({"error": "this one is not active any more"}, status_code=503)
        return JSONResponse(told)

    return app


class StepServer:
    """Serves it at a unix socket."""

    def __init__(self, app: FastAPI, path: Path) -> None:
        self._path = path
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=1,
            )
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen. Raises OSError."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self._path))
        self._path.chmod(0o600)
        listener.listen(16)
        self._task = asyncio.create_task(self._server._serve(sockets=[listener]))

    async def stop(self) -> None:
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        with contextlib.suppress(OSError):
            self._path.unlink()
