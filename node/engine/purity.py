"""Finds, when an application is loaded, what its workflows must not call.

The guard sees files, sockets, processes and threads at run time, but no clock and no chance:
reading them raises no audit event. So the code of each workflow is read instead, with the
functions of its own module that it names. What it reaches by other ways is found by a replay that
diverges.
"""

from __future__ import annotations

import builtins
import datetime
import dis
import os
import random
import secrets
import time
import uuid
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

_NOW: Final = "use workflow.now()"
_CHANCE: Final = "use workflow.random()"
_REFUSED: Final[dict[Any, str]] = {
    time.time: _NOW,
    time.time_ns: _NOW,
    time.monotonic: _NOW,
    time.monotonic_ns: _NOW,
    time.perf_counter: _NOW,
    time.localtime: _NOW,
    time.gmtime: _NOW,
    time.sleep: "use await workflow.sleep()",
    datetime.datetime.now: _NOW,
    datetime.datetime.utcnow: _NOW,
    datetime.datetime.today: _NOW,
    datetime.date.today: _NOW,
    uuid.uuid1: "use workflow.uuid4()",
    uuid.uuid4: "use workflow.uuid4()",
    os.urandom: _CHANCE,
    random.SystemRandom: _CHANCE,
    **{
        getattr(module, name): _CHANCE
        for module in (random, secrets)
        for name in module.__all__
        if callable(getattr(module, name))
        and not isinstance(getattr(module, name), type)
        and name != "compare_digest"
    },
}
_ATTRIBUTE: Final = frozenset({"LOAD_ATTR", "LOAD_METHOD"})


def impurities(function: Callable[..., Any]) -> list[str]:
    """What a workflow's function uses that no replay could repeat, in words; none is fine."""
    return list(_of(function, function.__module__, set()))


def _of(function: Any, module: str, seen: set[CodeType]) -> Iterator[str]:
    function = getattr(function, "__wrapped__", function)
    if not isinstance(function, FunctionType) or function.__code__ in seen:
        return
    if function.__module__ == module:
        yield from _in(function.__code__, function.__globals__, module, seen)


def _in(code: CodeType, names: dict[str, Any], module: str, seen: set[CodeType]) -> Iterator[str]:
    seen.add(code)
    for line, words, value in _loaded(code, names):
        try:
            instead = _REFUSED.get(value)
        except TypeError:  # it has no hash, and so is none of them
            continue
        if instead is not None:
            where = f"{code.co_name}, line {line}"
            yield f"{where}: {words} gives something else on a replay; {instead}"
        elif isinstance(value, FunctionType):
            yield from _of(value, module, seen)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _in(constant, names, module, seen)


def _loaded(code: CodeType, names: dict[str, Any]) -> Iterator[tuple[int, str, Any]]:
    """The globals that the code loads, and their attributes as far as modules and types go."""
    line, words, value, known = code.co_firstlineno, "", None, False
    for step in dis.get_instructions(code):
        if step.starts_line is not None and step.positions is not None:
            line = step.positions.lineno or line
        if step.opname == "LOAD_GLOBAL":
            words = str(step.argval)
            known = words in names or hasattr(builtins, words)
            value = names.get(words, getattr(builtins, words, None))
        elif known and step.opname in _ATTRIBUTE and isinstance(value, (ModuleType, type)):
            words = f"{words}.{step.argval}"
            known = hasattr(value, str(step.argval))
            value = getattr(value, str(step.argval), None)
        elif step.opname not in ("CACHE", "EXTENDED_ARG"):
            known = False
        if known:
            yield line, words, value
