"""Which patches a workflow's code asks for, read from the code itself."""

from __future__ import annotations

import builtins
import dis
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any, Final

_SKIPPED: Final = frozenset({"CACHE", "EXTENDED_ARG", "PUSH_NULL"})


def patches_in(function: Callable[..., Any]) -> set[str]:
    """The names in `workflow.patched("name")` of a workflow's function, and of the functions of
    its own module that it names; only those that are written out."""
    return set(_of(function, function.__module__, set()))


def _of(function: Any, module: str, seen: set[CodeType]) -> Iterator[str]:
    function = getattr(function, "__wrapped__", function)
    if isinstance(function, FunctionType) and function.__module__ == module:
        yield from _in(function.__code__, function.__globals__, module, seen)


def _in(code: CodeType, names: dict[str, Any], module: str, seen: set[CodeType]) -> Iterator[str]:
    if code in seen:
        return
    seen.add(code)
    asked = False
    for step in dis.get_instructions(code):
        if step.opname in _SKIPPED:
            continue
        if asked and step.opname == "LOAD_CONST" and isinstance(step.argval, str):
            yield step.argval
        asked = step.opname in ("LOAD_ATTR", "LOAD_METHOD") and step.argval == "patched"
        if step.opname == "LOAD_GLOBAL" and not hasattr(builtins, str(step.argval)):
            yield from _of(names.get(str(step.argval)), module, seen)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _in(constant, names, module, seen)
