"""Values in and out of the log: checked against type hints, kept as compact JSON."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Final, NamedTuple, NotRequired, cast

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError
from typing_extensions import TypedDict

from node.engine.errors import DefinitionError, PayloadError, PayloadTooLarge

_INPUT: Final = "its input"
_RESULT: Final = "its result"


class _Limit:
    """The largest payload that this process writes, in bytes of JSON. One for all, as the codecs
    belong to the declarations, which all engines of a process share."""

    size: int = 16 * 1024 * 1024


def limit_to(size: int) -> None:
    """Refuse payloads of more bytes of JSON from now on."""
    _Limit.size = size


class Arguments(NamedTuple):
    """What a function is called with."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Codec:
    """How one function's arguments and result are written to the log and read back.

    Type hints are resolved at first use, so that they may name types that are declared later;
    `check` resolves them now. A value is always read back from its JSON, so what runs after a
    restart is given the same as what ran before it.
    """

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.function = function
        self.name = name
        self.signature = inspect.signature(function)
        parameters = self.signature.parameters.values()
        self._positions = tuple(p.name for p in parameters if p.kind is not p.KEYWORD_ONLY)
        self._keywords = tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
        for parameter in parameters:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise DefinitionError(
                    f"{name}: the parameter {parameter} has no fixed name, so the log cannot"
                    " hold its value; declare each parameter",
                )

    @cached_property
    def _hints(self) -> dict[str, Any]:
        try:
            return typing.get_type_hints(self.function, include_extras=True)
        except (NameError, TypeError) as error:
            raise DefinitionError(
                f"{self.name}: a type hint cannot be resolved ({error})",
                hint="Declare the types it names at the top level of its module.",
            ) from error

    @cached_property
    def _input(self) -> _Form:
        fields: dict[str, Any] = {}
        for key, parameter in self.signature.parameters.items():
            hint = self._hints.get(key, Any)
            has_default = parameter.default is not parameter.empty
            fields[key] = NotRequired[hint] if has_default else hint
        shape = cast(Any, TypedDict)(f"{self.name}_input", fields)
        shape.__pydantic_config__ = {"extra": "forbid", "arbitrary_types_allowed": False}
        plain = all(_is_plain(self._hints.get(key, Any)) for key in self.signature.parameters)
        return _Form(shape, self.name, _INPUT, plain=plain)

    @cached_property
    def _output(self) -> _Form:
        hint = self._hints.get("return", Any)
        return _Form(hint, self.name, _RESULT, plain=_is_plain(hint))

    def check(self) -> None:
        """Resolve the type hints now. Raises DefinitionError."""
        _ = self._input, self._output

    def input(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """The JSON of a call's arguments. Raises TypeError, PayloadError, PayloadTooLarge."""
        if not kwargs and len(args) == len(self._positions) and not self._keywords:
            # What `bind` would find out, for the commonest calls.
            return self._input.write(dict(zip(self._positions, args, strict=True)))
        return self.input_of(self.signature.bind(*args, **kwargs).arguments)

    def input_of(self, values: Mapping[str, Any]) -> str:
        """The JSON of named arguments. Raises PayloadError, PayloadTooLarge."""
        return self._input.write(dict(values))

    def start(self, values: Mapping[str, Any]) -> str:
        """Like `input_of`, with the defaults written out: what an execution was started with
        stays the same when the code's defaults change. Raises PayloadError, PayloadTooLarge."""
        defaults = {
            key: parameter.default
            for key, parameter in self.signature.parameters.items()
            if parameter.default is not parameter.empty
        }
        return self.input_of({**defaults, **values})

    def arguments(self, payload: str | None) -> Arguments:
        """The arguments that `input` wrote, ready for the call. Raises PayloadError."""
        values = self._input.read(payload or "{}")
        if not self._keywords and len(values) == len(self._positions):
            # In the signature's order: JSON has its own.
            return Arguments(tuple([values[key] for key in self._positions]), {})
        bound = inspect.BoundArguments(self.signature, cast(Any, dict(values)))
        # BoundArguments takes positions from the signature's order, and JSON has its own.
        bound.arguments = {k: values[k] for k in self.signature.parameters if k in values}
        if len(bound.arguments) < len(self.signature.parameters):
            bound.apply_defaults()
        return Arguments(bound.args, bound.kwargs)

    def result(self, value: Any) -> str | None:
        """The JSON of a result, None for null. Raises PayloadError, PayloadTooLarge."""
        text = self._output.write(value)
        return None if text == "null" else text

    def value(self, payload: str | None) -> Any:
        """The result that `result` wrote. Raises PayloadError."""
        return self._output.read("null" if payload is None else payload)


class _Form:
    """How values of one type are written and read; `what` says what they are of `name`.

    `plain` values are what they declare once they have been checked, so that no serializer need
    look for those that are not, which takes it six times as long as writing them.
    """

    def __init__(self, hint: Any, name: str, what: str, *, plain: bool = False) -> None:
        """Raises DefinitionError when the type cannot be written as JSON."""
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(hint)
        except (PydanticSchemaGenerationError, PydanticUserError) as error:
            raise DefinitionError(
                f"{name}: a type hint cannot be written as JSON ({str(error).splitlines()[0]})",
                hint="Use pydantic models, dataclasses and builtin types.",
            ) from error
        # The adapter's own methods say the same in more words, on every step.
        self._check = adapter.validator.validate_python
        self._parse = adapter.validator.validate_json
        self._format = adapter.serializer.to_json
        self._plain = plain
        self._name = name
        self._what = what

    def write(self, value: Any, name: str | None = None) -> str:
        """Its JSON. `name` says whose it is, if that is no declared one.

        Raises PayloadError, PayloadTooLarge.
        """
        try:
            checked = self._check(value)
            data = self._format(checked) if self._plain else self._format(checked, warnings="error")
        except ValidationError as error:
            raise PayloadError(
                f"{name or self._name}: {self._what} is not what it declares: {_why(error)}"
            ) from error
        except (PydanticSerializationError, UnicodeError) as error:
            raise PayloadError(
                f"{name or self._name}: {self._what} cannot be written as JSON: {error}"
            ) from error
        if len(data) > _Limit.size:
            raise PayloadTooLarge(
                f"{name or self._name}: {self._what} has {len(data)} bytes of JSON; the log takes"
                f" {_Limit.size}"
            )
        return data.decode()

    def read(self, payload: str) -> Any:
        """The value that this JSON is. Raises PayloadError."""
        try:
            return self._parse(payload)
        except ValidationError as error:
            raise PayloadError(
                f"{self._name}: {self._what} in the log is not what it declares now: {_why(error)}"
            ) from error


class Shape(_Form):
    """How one value of a declared type is written to the log and read back."""

    def __init__(self, hint: Any, name: str) -> None:
        """Raises DefinitionError when the type cannot be written as JSON."""
        super().__init__(hint, name, "its value")


_ANY: Final = Shape(Any, "a value")


def plain_json(value: Any, name: str) -> str:
    """The JSON of a value of no declared type. Raises PayloadError, PayloadTooLarge."""
    return _ANY.write(value, name)


def _is_plain(hint: Any) -> bool:
    """Whether a checked value of this type is made of Python's own types only."""
    if hint is None or any(hint is one for one in (int, str, bool, float, type(None))):
        return True
    parts = typing.get_args(hint)
    known = typing.get_origin(hint) in (list, dict, typing.Union, types.UnionType)
    return known and bool(parts) and all(map(_is_plain, parts))


def _why(error: ValidationError) -> str:
    parts = []
    for detail in error.errors(include_url=False, include_context=False, include_input=False)[:5]:
        where = ".".join(str(part) for part in detail["loc"])
        parts.append(f"{where}: {detail['msg']}" if where else detail["msg"])
    return "; ".join(parts)
