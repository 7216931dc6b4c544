"""An application: a module whose workflows and activities an engine runs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from node.engine.definition import Activity, Workflow
from node.engine.errors import DefinitionError
from node.engine.events import RESERVED
from node.engine.kept import import_beside
from node.engine.purity import impurities
from node.engine.queue import Queue
from node.engine.retention import Retention, Rules
from node.engine.schedule import Schedule
from node.engine.signals import Signal
from node.engine.webhooks import Webhook

#: What an application's module may call its version.
VERSION_NAME: Final = "APPLICATION_VERSION"


@dataclass(frozen=True, slots=True)
class Application:
    """What an engine can run, by name."""

    name: str
    workflows: Mapping[str, Workflow[..., Any]]
    activities: Mapping[str, Activity[..., Any]]
    version: str | None = None
    """What the application calls its version; it is kept with each execution it starts."""
    signals: Mapping[str, Signal[Any]] = field(default_factory=dict)
    queues: Mapping[str, Queue] = field(default_factory=dict)
    webhooks: Mapping[str, Webhook] = field(default_factory=dict)
    """By method and path, as in `POST /github`."""
    schedules: Mapping[str, Schedule] = field(default_factory=dict)
    retention: Sequence[Retention] = ()


def collect(name: str, things: Iterable[object], *, version: str | None = None) -> Application:
    """The workflows, activities, signals, queues, webhooks, schedules and rules of retention among
    `things`. Raises DefinitionError."""
    workflows: dict[str, Workflow[..., Any]] = {}
    activities: dict[str, Activity[..., Any]] = {}
    signals: dict[str, Signal[Any]] = {}
    queues: dict[str, Queue] = {}
    webhooks: dict[str, Webhook] = {}
    retention: list[Retention] = []
    schedules: dict[str, Schedule] = {}
    several = list(things)
    started = [thing.workflow for thing in several if isinstance(thing, Schedule)]
    for thing in (*several, *started):
        if isinstance(thing, (Workflow, Activity)) and thing.name.startswith(RESERVED):
            raise DefinitionError(
                f"{name}: {thing.name!r} is a name of the engine's own, as all are that begin with"
                f" {RESERVED!r}",
                hint="Choose another name.",
            )
        if isinstance(thing, Workflow):
            if workflows.setdefault(thing.name, thing) is not thing:
                raise DefinitionError(f"{name}: two workflows are named {thing.name!r}")
            thing.codec.check()
            if thing.pinned and version is None:
                raise DefinitionError(
                    f"{name}: workflow {thing.name} is pinned, and the application has no version",
                    hint=f'Give it one: {VERSION_NAME} = "1" in its module.',
                )
            _refuse_impure(thing)
        elif isinstance(thing, Activity):
            if activities.setdefault(thing.name, thing) is not thing:
                raise DefinitionError(f"{name}: two activities are named {thing.name!r}")
            thing.codec.check()
        own = thing if isinstance(thing, Queue) else getattr(thing, "queue", None)
        if isinstance(own, Queue) and queues.setdefault(own.name, own) is not own:
            raise DefinitionError(f"{name}: two queues are named {own.name!r}")
        if isinstance(thing, Signal) and signals.setdefault(thing.name, thing) is not thing:
            raise DefinitionError(f"{name}: two signals are named {thing.name!r}")
        if isinstance(thing, Retention) and thing not in retention:
            retention.append(thing)
        if isinstance(thing, Webhook):
            address = f"{thing.method} {thing.path}"
            if webhooks.setdefault(address, thing) is not thing:
                raise DefinitionError(f"{name}: two webhooks are at {address}")
        if isinstance(thing, Schedule):
            if schedules.setdefault(thing.name, thing) is not thing:
                raise DefinitionError(f"{name}: two schedules are named {thing.name!r}")
            thing.check()
    if not workflows:
        raise DefinitionError(
            f"{name} declares no workflow", hint="Declare one with @workflow on an async def."
        )
    Rules.of(retention)  # Refuses two that are about the same.
    return Application(
        name, workflows, activities, version, signals, queues, webhooks, schedules, retention
    )


def _refuse_impure(workflow: Workflow[..., Any]) -> None:
    found = impurities(workflow.function)
    if found:
        raise DefinitionError(
            f"workflow {workflow.name}: {'; '.join(found[:5])}",
            hint="Or call it in an activity, whose result is in the log.",
        )


def load_app(source: str) -> Application:
    """Import `package.module`, or `FOLDER:package.module` with that folder first among those that
    imports are looked for in, and collect what it declares. Raises DefinitionError."""
    folder, _, module = source.rpartition(":")
    if folder:
        found = str(_folder(folder))
        if found in sys.path:
            sys.path.remove(found)
        sys.path.insert(0, found)
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise DefinitionError(
            f"the application {source!r} cannot be imported: {error}",
            hint="Name a module that Python finds, such as package.module.",
        ) from error
    _refuse_hidden(loaded, source, folder)
    return _collected(source, loaded)


def load_kept(source: str, beside: str = "") -> Application:
    """An older version of the application `beside`, next to it in one process: that of
    `FOLDER:package.module`, or of `FOLDER` where the module is called the same. Raises
    DefinitionError, and whatever its code raises."""
    folder, _, module = source.rpartition(":")
    if not folder:
        folder = source
        module = Path(beside).stem if beside.endswith(".py") else beside.rpartition(":")[2]
    if not module:
        raise DefinitionError(
            f"{source!r} names no module", hint="Say which: FOLDER:package.module."
        )
    return _collected(source, import_beside(_folder(folder), module))


def _collected(source: str, module: ModuleType) -> Application:
    version = getattr(module, VERSION_NAME, None)
    return collect(source, vars(module).values(), version=None if version is None else str(version))


def _folder(name: str) -> Path:
    """A folder by its path, or as it is found where imports are. Raises DefinitionError."""
    for place in ("", *sys.path):
        found = Path(place or ".") / name
        if found.is_dir():
            return found.resolve()
    raise DefinitionError(
        f"there is no folder {name}",
        hint="Name one by its path, or relative to where the application's modules are found.",
    )


def _refuse_hidden(module: ModuleType, source: str, folder: str) -> None:
    file = getattr(module, "__file__", None)
    if folder and (file is None or not Path(file).resolve().is_relative_to(_folder(folder))):
        raise DefinitionError(
            f"{source} is hidden by {file or 'a module of Python'} of the same name",
            hint="Give the module another name.",
        )


def load_app_file(path: Path) -> Application:
    """Run the file `path` as the module of its name, with its folder first among those that
    imports are looked for in, and collect what it declares. Raises DefinitionError, and
    whatever its code raises."""
    file = path.resolve()
    if not file.is_file():
        raise DefinitionError(f"there is no file {path}", hint="Check the path.")
    if not file.stem.isidentifier():
        raise DefinitionError(
            f"{path} cannot be imported as a module", hint="Give it a name that Python allows."
        )
    folder = str(file.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    application = load_app(file.stem)
    found = getattr(sys.modules[file.stem], "__file__", None)
    if found is None or Path(found).resolve() != file:
        raise DefinitionError(
            f"{path} is hidden by {found or 'a module of Python'} of the same name",
            hint="Give the file another name.",
        )
    return application


def find_app(name: str) -> Application:
    """An application by the path of its file, or as `load_app` takes it. Raises like that and
    `load_app_file`."""
    if ":" not in name and (name.endswith(".py") or "/" in name):
        return load_app_file(Path(name))
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    return load_app(name)
