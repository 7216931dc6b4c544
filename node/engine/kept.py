"""Importing an older version of an application beside the current one.

The modules of a folder are imported under a package of their own, so that both versions of one
module are there at once. What they import from each other they get from their own folder, also
where an import stands inside a function; libraries, Python's own modules and Litefleet are shared.
Only `importlib.import_module("name")` with a name of the folder's is not seen, and gets the current
version's.
"""

from __future__ import annotations

import builtins
import importlib
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import blake2b
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from node.engine.errors import DefinitionError

#: What there may be only one of in a process.
_SHARED: Final = frozenset({"node", "fleet", "backup", "restore", *sys.stdlib_module_names})


def import_beside(folder: Path, module: str) -> ModuleType:
    """Import `module` from `folder`, beside whatever else has its name. Raises DefinitionError,
    and whatever its code raises."""
    folder = folder.resolve()
    if not _has(folder, module.partition(".")[0]):
        raise DefinitionError(
            f"there is no module {module!r} in {folder}", hint="Check the folder and the name."
        )
    try:
        return importlib.import_module(f"{_package(folder)}.{module}")
    except ModuleNotFoundError as error:
        raise DefinitionError(
            f"the application {module!r} of {folder} cannot be imported: {error}",
            hint="Name a module that the folder has, such as package.module.",
        ) from error


def _has(folder: Path, top: str) -> bool:
    if top in _SHARED:
        return False
    return (folder / f"{top}.py").is_file() or (folder / top).is_dir()


@cache
def _package(folder: Path) -> str:
    """The name of the package that holds the modules of a folder."""
    name = f"_litefleet_kept_{blake2b(str(folder).encode(), digest_size=6).hexdigest()}"
    package = ModuleType(name)
    package.__path__ = [str(folder)]
    sys.modules[name] = package
    sys.meta_path.insert(0, _Finder(name, folder))
    return name


class _Finder(MetaPathFinder):
    """Finds the modules of one folder."""

    def __init__(self, package: str, folder: Path) -> None:
        self._prefix = f"{package}."
        self._names = {**vars(builtins), "__import__": self._import}
        self._folder = folder

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        """The spec of a module of this folder, None for any other."""
        if not name.startswith(self._prefix):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(name, spec.loader.path, self._names)
        return spec

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """What an `import` in one of these modules does."""
        top = name.partition(".")[0]
        if level or not _has(self._folder, top):
            return __import__(name, globals, locals, fromlist or (), level)
        found = __import__(self._prefix + name, globals, locals, fromlist or (), 0)
        # `import a.b` gives a, of which the first part is the package.
        return found if fromlist else sys.modules[self._prefix + top]


class _Loader(SourceFileLoader):
    """Runs a module with an `import` of its own."""

    def __init__(self, name: str, path: str, names: dict[str, Any]) -> None:
        super().__init__(name, path)
        self._names = names

    def exec_module(self, module: ModuleType) -> None:
        """Run it."""
        vars(module)["__builtins__"] = self._names
        super().exec_module(module)
