"""Where a running `litefleet up` leaves its address and token for the other commands.

One file for each fleet, `<name>.json` in `$LITEFLEET_HOME` (by default
`~/.litefleet`), readable only by its user and removed when the fleet stops. A
file whose process is gone was left by a crash and counts as absent.
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from backup.settings import REVEAL, StoreSettings
from fleet import DEFAULT_NAME

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")


class RunningFleet(BaseModel):
    """A fleet that answers on this machine.

    `pid` and `born` (the process's creation time, UNIX seconds) name the process
    that runs it: a number alone could be another process by now. `store` is where its
    bucket is, for what must work without the coordinator.
    """

    model_config = ConfigDict(extra="ignore")

    name: str
    address: str
    token: str
    pid: int
    born: float
    store: StoreSettings | None = None

    @property
    def alive(self) -> bool:
        try:
            return abs(psutil.Process(self.pid).create_time() - self.born) < 1.0
        except psutil.Error:
            return False


class NameTaken(Exception):
    """A fleet of this name is running already."""

    def __init__(self, running: RunningFleet) -> None:
        super().__init__(
            f"a fleet named {running.name!r} is running already "
            f"(process {running.pid}, {running.address})"
        )
        self.running = running


class BadName(ValueError):
    """A fleet's name has 1 to 32 of a-z, 0-9 and '-', and no '-' at either end."""


def home(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder for the state files."""
    given = environment.get("LITEFLEET_HOME")
    return Path(given) if given else Path.home() / ".litefleet"


def path_of(name: str, folder: Path | None = None) -> Path:
    """The state file of a fleet. Raises BadName."""
    if not _NAME.fullmatch(name):
        raise BadName(f"{name!r} is not a fleet name: use 1 to 32 of a-z, 0-9 and '-'")
    return (folder or home()) / f"{name}.json"


def read(name: str = DEFAULT_NAME, folder: Path | None = None) -> RunningFleet | None:
    """The running fleet of this name, or None. Raises BadName."""
    try:
        running = RunningFleet.model_validate_json(path_of(name, folder).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return None
    return running if running.alive else None


def running(folder: Path | None = None) -> list[RunningFleet]:
    """Every fleet that runs on this machine under this home."""
    root = folder or home()
    if not root.is_dir():
        return []
    found = (read(path.stem, root) for path in sorted(root.glob("*.json")) if _is_name(path.stem))
    return [one for one in found if one is not None]


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def write(
    name: str,
    address: str,
    token: str,
    folder: Path | None = None,
    *,
    store: StoreSettings | None = None,
) -> Path:
    """Record this process's fleet. Raises NameTaken, BadName and OSError.

    Written whole to a temporary file first: a reader never sees half a record,
    and no secret is ever in a file that others can read.
    """
    path = path_of(name, folder)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    me = psutil.Process()
    record = RunningFleet(
        name=name,
        address=address,
        token=token,
        pid=me.pid,
        born=me.create_time(),
        store=store,
    )
    with _locked(path.parent):
        taken = read(name, folder)
        if taken is not None:
            raise NameTaken(taken)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{name}-")
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(record.model_dump_json(indent=2, context=REVEAL) + "\n")
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    return path


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Of two fleets of one name that start at once, the second must see the first's record."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def remove(name: str, folder: Path | None = None) -> None:
    """Remove this process's record; another process's stays."""
    path = path_of(name, folder)
    try:
        record = RunningFleet.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return
    if record.pid == os.getpid():
        path.unlink(missing_ok=True)
