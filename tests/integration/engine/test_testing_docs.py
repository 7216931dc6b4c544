"""The examples of the how-to are run, and the reference names all that the kit has."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import node.testing

DOCS = Path(__file__).parents[3] / "docs"


def blocks() -> list[str]:
    text = (DOCS / "how-to" / "test-a-workflow.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def examples() -> Iterator[dict[str, object]]:
    shop, *tests = blocks()
    module = ModuleType("shop")
    exec(shop, module.__dict__)
    sys.modules["shop"] = module
    names: dict[str, object] = {"__name__": "examples"}
    exec("\n".join(tests), names)
    yield names
    del sys.modules["shop"]


def test_the_examples_run(examples: dict[str, object], tmp_path: Path) -> None:
    tests = {name: test for name, test in examples.items() if name.startswith("test_")}
    assert len(tests) == "\n".join(blocks()).count("def test_") == 7
    for test in tests.values():
        assert callable(test)
        test(**({"tmp_path": tmp_path} if inspect.signature(test).parameters else {}))


def undocumented(text: str) -> list[str]:
    names = [*node.testing.__all__, *(name for name in vars(node.testing.Lab) if name[0] != "_")]
    return [name for name in names if not re.search(rf"`[^`\n]*\b{name}\b[^`\n]*`", text)]


def test_every_name_is_in_the_reference() -> None:
    text = (DOCS / "reference" / "testing.md").read_text(encoding="utf-8")
    assert undocumented(text) == []
    assert undocumented(text.replace("MemoryBarrier", "")) == ["MemoryBarrier"]
