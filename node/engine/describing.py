"""What an application's workflows take and give, as JSON Schemas, for people and programs.

A workflow's code registers its handlers when it runs. What they are is read from its source, as
far as that says it: a handler that is registered in another way works all the same, and is not
shown here.
"""

from __future__ import annotations
import __future__

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Final, Literal

from pydantic import PydanticInvalidForJsonSchema, PydanticUserError, TypeAdapter
from pydantic_core import PydanticSerializationError, to_jsonable_python

from node.engine.definition import Workflow
from node.engine.errors import DefinitionError
from node.engine.namespace import WorkflowNamespace
from node.engine.payload import Codec, adapter_of
from node.engine.signals import Signal

Schema = dict[str, Any]
_KINDS: Final = ("signal", "query", "update")


@dataclass(frozen=True, slots=True)
class MessageDescription:
    """A message that a workflow's code takes. `result` is None for a signal."""

    name: str
    description: str
    input: Schema
    result: Schema | None


@dataclass(frozen=True, slots=True)
class WorkflowDescription:
    """A workflow: its arguments by name, its result, and the messages that it takes."""

    name: str
    description: str
    input: Schema
    result: Schema
    signals: tuple[MessageDescription, ...]
    queries: tuple[MessageDescription, ...]
    updates: tuple[MessageDescription, ...]


def describe_workflow(workflow: Workflow[..., Any]) -> WorkflowDescription:
    """What a workflow takes and gives. Schemas are empty where a type has none."""
    found: dict[str, dict[str, MessageDescription]] = {kind: {} for kind in _KINDS}
    for kind, message in _messages(workflow.function):
        found[kind].setdefault(message.name, message)
    given, result = _schemas(workflow.codec)
    return WorkflowDescription(
        workflow.name,
        inspect.getdoc(workflow.function) or "",
        given,
        result,
        *(tuple(found[kind].values()) for kind in _KINDS),
    )


def given_schema(
    adapter: TypeAdapter[Any], mode: Literal["validation", "serialization"]
) -> Schema | None:
    """The JSON Schema of a type; None where it has none."""
    try:
        return adapter.json_schema(mode=mode)
    except (PydanticInvalidForJsonSchema, PydanticUserError):
        return None


def summary_of(text: str) -> str:
    """The first sentence of a docstring, in one line."""
    first = " ".join(inspect.cleandoc(text).partition("\n\n")[0].split())
    return first.partition(". ")[0].removesuffix(".").partition(": ")[0] if first else ""


def with_defaults(schema: Schema, codec: Codec) -> Schema:
    """The schema of a function's arguments with the defaults that can be written as JSON."""
    properties = dict(schema.get("properties", {}))
    for name, parameter in codec.signature.parameters.items():
        if name in properties and parameter.default is not parameter.empty:
            try:
                value = to_jsonable_python(parameter.default)
            except PydanticSerializationError:
                continue
            properties[name] = {**properties[name], "default": value}
    return {**schema, "properties": properties} if properties else schema


def _schemas(codec: Codec) -> tuple[Schema, Schema]:
    given, result = codec.adapters
    taken = with_defaults(given_schema(given, "validation") or {}, codec)
    return taken, given_schema(result, "serialization") or {}


def _messages(function: Callable[..., Any]) -> Iterator[tuple[str, MessageDescription]]:
    function = inspect.unwrap(function)
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return
    known = getattr(function, "__globals__", {})
    for found in ast.walk(tree):
        if isinstance(found, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for decorator in found.decorator_list:
                kind = _asked(decorator, known)
                if kind in _KINDS:
                    yield kind, _handler(kind, found, function)
        elif isinstance(found, ast.Call) and _asked(found, known) == "receive" and found.args:
            signal = _received(found, known)
            if signal is not None:
                yield "signal", signal


def _asked(expression: ast.expr, known: dict[str, Any]) -> str:
    """Which of `workflow`'s functions it is, as in `workflow.query`; nothing for another."""
    if isinstance(expression, ast.Call):
        expression = expression.func
    if not isinstance(expression, ast.Attribute) or not isinstance(expression.value, ast.Name):
        return ""
    owner = known.get(expression.value.id)
    return expression.attr if isinstance(owner, WorkflowNamespace) else ""


def _handler(
    kind: str, found: ast.FunctionDef | ast.AsyncFunctionDef, owner: Callable[..., Any]
) -> MessageDescription:
    about = ast.get_docstring(found) or ""
    try:
        given, result = _schemas(Codec(_stub(found, owner), found.name))
    except (DefinitionError, NameError, TypeError, SyntaxError):
        # It names what only the running workflow knows.
        given, result = {}, {}
    if kind != "signal":
        return MessageDescription(found.name, about, given, result)
    values = list(given.get("properties", {}).values())
    value = {**values[0], **_definitions(given)} if values else {"type": "null"}
    return MessageDescription(found.name, about, value if given else {}, None)


def _stub(found: ast.FunctionDef | ast.AsyncFunctionDef, owner: Callable[..., Any]) -> FunctionType:
    """A function with the same parameters and types that does nothing."""
    arguments = found.args
    for number, default in enumerate(arguments.defaults):
        arguments.defaults[number] = _constant(default)
    for number, one in enumerate(arguments.kw_defaults):
        arguments.kw_defaults[number] = None if one is None else _constant(one)
    (stub,) = ast.parse("def stub(): pass").body
    assert isinstance(stub, ast.FunctionDef)
    stub.name, stub.args, stub.returns = found.name, arguments, found.returns
    module = ast.fix_missing_locations(ast.Module(body=[stub], type_ignores=[]))
    # Types stay text until they are asked for, and are then looked up where the workflow is.
    code = compile(module, "<handler>", "exec", flags=_FUTURE, dont_inherit=True)
    space: dict[str, Any] = {}
    known = getattr(owner, "__globals__", {})
    exec(code, known, space)
    made = space[found.name]
    assert isinstance(made, FunctionType)
    return made


_FUTURE: Final = __future__.annotations.compiler_flag


def _constant(default: ast.expr) -> ast.expr:
    return default if isinstance(default, ast.Constant) else ast.Constant(value=None)


def _received(call: ast.Call, known: dict[str, Any]) -> MessageDescription | None:
    what = call.args[0]
    if isinstance(what, ast.Name) and isinstance(signal := known.get(what.id), Signal):
        schema = given_schema(signal.shape.adapter, "validation") or {}
        return MessageDescription(signal.name, "", schema, None)
    if not isinstance(what, ast.Constant) or not isinstance(what.value, str):
        return None
    schema = {}
    if len(call.args) > 1:
        try:
            hint = eval(compile(ast.Expression(call.args[1]), "<type>", "eval"), known, {})
            schema = given_schema(adapter_of(hint, what.value), "validation") or {}
        except Exception:  # whatever the expression needs is not here
            schema = {}
    return MessageDescription(what.value, "", schema, None)


def _definitions(schema: Schema) -> Schema:
    return {"$defs": schema["$defs"]} if "$defs" in schema else {}
