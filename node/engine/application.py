"""An application: a module whose workflows and activities an engine runs."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from node.engine.definition import Activity, Workflow
from node.engine.errors import DefinitionError


@dataclass(frozen=True, slots=True)
class Application:
    """What an engine can run, by name."""

    name: str
    workflows: Mapping[str, Workflow[..., Any]]
    activities: Mapping[str, Activity[..., Any]]


def collect(name: str, things: Iterable[object]) -> Application:
    """The workflows and activities among `things`. Raises DefinitionError."""
    workflows: dict[str, Workflow[..., Any]] = {}
    activities: dict[str, Activity[..., Any]] = {}
    for thing in things:
        if isinstance(thing, Workflow):
            if workflows.setdefault(thing.name, thing) is not thing:
                raise DefinitionError(f"{name}: two workflows are named {thing.name!r}")
            thing.codec.check()
        elif isinstance(thing, Activity):
            if activities.setdefault(thing.name, thing) is not thing:
                raise DefinitionError(f"{name}: two activities are named {thing.name!r}")
            thing.codec.check()
    if not workflows:
        raise DefinitionError(
            f"{name} declares no workflow", hint="Declare one with @workflow on an async def."
        )
    return Application(name, workflows, activities)


def load_app(module: str) -> Application:
    """Import `package.module` and collect what it declares. Raises DefinitionError."""
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise DefinitionError(
            f"the application {module!r} cannot be imported: {error}",
            hint="Name a module that Python finds, such as package.module.",
        ) from error
    return collect(module, vars(loaded).values())
