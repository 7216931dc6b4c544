"""`litefleet dev`: one engine after another on one log, each with the newest code that loads."""

from __future__ import annotations

import asyncio
import errno
import importlib.util
import ipaddress
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from watchfiles import PythonFilter, awatch

from fleet.dev.life import Life, Line, listen, relative
from fleet.interrupt import Interrupted, run
from fleet.problem import Problem

#: Milliseconds in which changes of several files are one change.
TOGETHER: Final = 300


@dataclass(frozen=True, slots=True)
class DevSettings:
    """What `litefleet dev` runs. `practice` takes this machine's disk for the bucket."""

    app: str
    kept: tuple[str, ...]
    database: Path
    host: str
    port: int
    practice: bool
    reload: bool


def run_dev(settings: DevSettings, show: Callable[[Line], None]) -> None:
    """Run until a signal arrives. Raises Problem when the first engine cannot open the log."""
    with suppress(Interrupted):
        run(_Dev(settings, show).run())


class _Dev:
    def __init__(self, settings: DevSettings, show: Callable[[Line], None]) -> None:
        self._settings = settings
        self._show = show
        self._life: Life | None = None

    async def run(self) -> None:
        settings = self._settings
        folder = _folder(settings.app)
        try:
            listener = listen(settings.host, settings.port)
        except OSError as error:
            raise _no_port(settings, error) from error
        self._url = f"http://{settings.host}:{listener.getsockname()[1]}"
        self._orders = {
            "app": settings.app,
            "kept": settings.kept,
            "database": str(settings.database.absolute()),
            "practice": settings.practice,
        }
        self._listener = listener.fileno()
        try:
            await self._begin()
            await self._follow(folder)
        finally:
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            await self._end()
            listener.close()
            self._say("stopped")

    async def _begin(self) -> None:
        """The first life. What is wrong with the code can be mended, so it is waited for."""
        refused = await self._replace()
        if refused is not None and (not self._settings.reload or "trace" not in refused):
            raise Problem(refused["type"], refused["message"], _hint(refused))
        if refused is not None:
            self._show({**refused, "serving": False})

    async def _follow(self, folder: Path) -> None:
        if not self._settings.reload:
            assert self._life is not None
            status = await asyncio.shield(self._life.ended)
            raise Problem("engine_ended", f"The engine ended with status {status}.")
        ignored = [self._settings.database.absolute().parent]
        if ignored[0] in (folder, *folder.parents):
            ignored = []
        changes = awatch(
            folder,
            watch_filter=PythonFilter(ignore_paths=ignored),
            debounce=TOGETHER,
            step=50,
            raise_interrupt=False,
        )
        async for change in changes:
            self._say("changed", files=sorted({relative(path) for _, path in change}))
            refused = await self._replace()
            if refused is not None:
                self._show({**refused, "serving": self._life is not None})

    async def _replace(self) -> Line | None:
        """Put an engine with the code as it is now in the place of the one that runs. Why not,
        if not; what runs then goes on."""
        life = Life(self._orders, self._listener, self._show)
        try:
            first = await life.first
            if first is None or first["event"] == "refused":
                await life.ended
                return first or _silent(await life.ended)
            await self._end()
            life.open()
            opened = await life.opened
            if opened is None or opened["event"] == "refused":
                await life.ended
                return opened or _silent(await life.ended)
        except BaseException:
            await life.stop()
            raise
        self._life = life
        life.ended.add_done_callback(lambda _: self._ended(life))
        settings = self._settings
        self._say(
            "serving",
            workflows=first["workflows"],
            executions=opened["executions"],
            url=self._url,
            database=relative(str(settings.database.absolute())),
            practice=settings.practice,
        )
        return None

    async def _end(self) -> None:
        life, self._life = self._life, None
        if life is not None:
            await life.stop()

    def _ended(self, life: Life) -> None:
        if self._life is life and not life.ended.cancelled():
            self._life = None
            self._say("ended", status=life.ended.result())

    def _say(self, event: str, **more: Any) -> None:
        self._show({"event": event, "at": time.time(), **more})


def _folder(app: str) -> Path:
    """What to watch: the folder of the file, or that of the module's outermost package."""
    if ":" in app:
        return Path(app.rpartition(":")[0]).resolve()
    if app.endswith(".py") or "/" in app:
        return Path(app).resolve().parent
    top = Path.cwd() / app.partition(".")[0]
    if top.is_dir():
        return top
    found = importlib.util.find_spec(app.partition(".")[0])
    if found is not None and found.origin is not None and not top.with_suffix(".py").exists():
        return Path(found.origin).resolve().parent
    return Path.cwd()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _no_port(settings: DevSettings, error: OSError) -> Problem:
    if error.errno == errno.EADDRINUSE:
        return Problem(
            "port_taken",
            f"Port {settings.port} of {settings.host} is taken.",
            "Is another `litefleet dev` running? Choose a port with --port; 0 takes a free one.",
        )
    return Problem(
        "no_port", f"{settings.host}:{settings.port} cannot be listened on: {error.strerror}."
    )


def _silent(status: int) -> Line:
    return {
        "event": "refused",
        "at": time.time(),
        "type": "ended",
        "message": f"the process ended with status {status} before it had loaded the code",
        "hint": "What it printed says more.",
    }


def _hint(refused: Line) -> str | None:
    if refused["type"] == "DurabilityUnavailable":
        return (
            "There is no bucket here that could hold what it promises. Declare it async, or run "
            "with --practice, which takes this machine's disk for the bucket."
        )
    if refused["type"] == "LogInUse":
        return "Stop the other `litefleet dev` first, or choose another file with --db."
    return refused.get("hint")
