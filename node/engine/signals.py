"""Signals that an application declares, so that each is checked when it is sent."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from node.engine.definition import named
from node.engine.payload import Shape

T = TypeVar("T")


class Signal(Generic[T]):
    """A named message to an execution, with a value of one type.

    Declared at the top level of an application, it makes the engine refuse a value of another
    type before it is logged. `await workflow.receive(signal)` takes the next one.
    """

    def __init__(self, name: str, type: type[T] | None = None) -> None:
        """Without a type any JSON value is taken. Raises DefinitionError."""
        self.name = named(name, "signal")
        self.shape = Shape(Any if type is None else type, self.name)
