"""A copy of a function together with the state that it closes over.

Queries and validators run on such a copy, so that nothing they do can reach the workflow; what
they did to the copy tells whether they tried.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from types import BuiltinFunctionType, CellType, FunctionType, ModuleType
from typing import Any, Final

from node.engine.definition import Activity, Workflow

_SHARED: Final = (ModuleType, BuiltinFunctionType, type, Activity, Workflow)


class NotCopyable(Exception):
    """The function closes over something that cannot be copied, such as a task or a lock."""


class Replica:
    """`function`, to be called, works on a copy of the original's variables."""

    def __init__(self, original: Callable[..., Any]) -> None:
        """Raises NotCopyable."""
        self._memo: dict[int, Any] = {}
        self._cells: dict[int, CellType] = {}
        self.function = self._function(original)
        self._before = self._state()

    @property
    def changed(self) -> bool:
        """Whether the calls since then have changed the copy."""
        return self._state() != self._before

    def _function(self, original: Callable[..., Any]) -> Callable[..., Any]:
        if not isinstance(original, FunctionType) or original.__closure__ is None:
            return original
        if id(original) in self._memo:
            return self._memo[id(original)]  # type: ignore[no-any-return]
        cells = tuple(CellType() for _ in original.__closure__)
        twin = FunctionType(
            original.__code__,
            original.__globals__,
            original.__name__,
            original.__defaults__,
            tuple(
                self._cells.setdefault(id(o), n)
                for o, n in zip(original.__closure__, cells, strict=True)
            ),
        )
        twin.__kwdefaults__ = original.__kwdefaults__
        self._memo[id(original)] = twin
        for cell, fresh in zip(original.__closure__, cells, strict=True):
            if self._cells[id(cell)] is fresh:
                self._fill(cell, fresh)
        return twin

    def _fill(self, cell: CellType, fresh: CellType) -> None:
        try:
            value = cell.cell_contents
        except ValueError:  # the variable has no value yet
            return
        if isinstance(value, FunctionType):
            fresh.cell_contents = self._function(value)
        elif isinstance(value, _SHARED):
            fresh.cell_contents = value
        else:
            try:
                fresh.cell_contents = copy.deepcopy(value, self._memo)
            except Exception as error:
                raise NotCopyable(str(error)) from error

    def _state(self) -> list[Any]:
        found: list[Any] = []
        for cell in self._cells.values():
            try:
                value = cell.cell_contents
            except ValueError:
                found.append(None)
                continue
            if isinstance(value, (FunctionType, *_SHARED)):
                found.append(id(value))
                continue
            try:
                found.append(pickle.dumps(value))
            except Exception:
                # What has no bytes is compared by its words; the copy protects it either way.
                found.append(repr(value))
        return found
