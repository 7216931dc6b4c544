"""Imports point one way: fleet → node → restore → backup, and the engine stands alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
ORDER = ["backup", "restore", "node", "fleet"]


def imported(source: str) -> Iterator[str]:
    """The modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide which way they point"
            yield node.module or ""


def allowed(package: str, module: str) -> bool:
    """Whether a file of ``package`` may import ``module``."""
    top = module.partition(".")[0]
    if package == "node.engine":
        return top not in ORDER or module == "node.engine" or module.startswith("node.engine.")
    return top not in ORDER or ORDER.index(top) <= ORDER.index(package)


def files() -> Iterator[tuple[str, Path]]:
    for name in ORDER:
        for path in sorted((ROOT / name).rglob("*.py")):
            engine = ROOT / "node" / "engine" in path.parents
            yield ("node.engine" if engine else name), path


@pytest.mark.parametrize(
    ("package", "path"),
    [pytest.param(*each, id=str(each[1].relative_to(ROOT))) for each in files()],
)
def test_imports_point_one_way(package: str, path: Path) -> None:
    wrong = [module for module in imported(path.read_text()) if not allowed(package, module)]
    assert wrong == []


@pytest.mark.parametrize(
    ("package", "line"),
    [
        ("backup", "from restore.plan import plan"),
        ("restore", "import node.order"),
        ("node", "from fleet import views"),
        ("node.engine", "from node.wire import Client"),
        ("node.engine", "from backup.errors import StoreError"),
    ],
)
def test_a_wrong_import_is_caught(package: str, line: str) -> None:
    assert not all(allowed(package, module) for module in imported(line))


def test_every_folder_of_a_package_is_one() -> None:
    """A folder without `__init__.py` works in this tree, and is missing from the wheel."""
    folders = {path.parent for name in ORDER for path in (ROOT / name).rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []
