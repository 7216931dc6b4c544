"""How a route of the engine's API is declared: what it takes and gives is said once, beside it.

    class QueuesApi(Routes):
        @operation("GET", "/queues/{name}", raises=(UnknownQueue,))
        async def show_queue(self, name: str, query: QueueQuery) -> QueueShown:
            \"\"\"How a queue stands.\"\"\"

The parameters say what is read of the request: those in the path by their names, `query` and `body`
by their models, `request` as it is. The answer is the model that the hint names, `(status, model)`
where there are several `statuses`, or a response of Starlette's with its `content` declared. The
OpenAPI document (api_openapi.py) is made from the same, so that it says what the code does; the
docstring is the operation's description, the method's name its id.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, TypeVar, cast

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from node.api_answers import body_of, query_of
from node.engine.errors import EngineError

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Any]])
_MARK: Final = "__operation__"


@dataclass(frozen=True, slots=True)
class Content:
    """An answer that is no model: its media type, what it is, and its JSON Schema if it has one."""

    media_type: str
    description: str
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error that is none of the engine's: what an answer calls it, its status, its meaning."""

    type: str
    status: int
    description: str


@dataclass(frozen=True)
class Operation:
    """What a route takes, gives and raises. `proves` says that its answer may wait for proof."""

    methods: tuple[str, ...]
    path: str
    handler: Callable[..., Awaitable[Any]]
    statuses: tuple[int, ...] = (200,)
    raises: tuple[type[EngineError], ...] = ()
    refusals: tuple[Refusal, ...] = ()
    proves: bool = False
    content: tuple[Content, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    example: Any = None
    """A body that can be sent."""

    @property
    def id(self) -> str:
        return self.handler.__name__

    @property
    def description(self) -> str:
        return inspect.getdoc(self.handler) or ""

    @cached_property
    def hints(self) -> dict[str, Any]:
        """The types of the parameters, and of the answer."""
        return typing.get_type_hints(self.handler)

    # The types are read when the first request comes, and not when the engine starts.
    @cached_property
    def query(self) -> type[BaseModel] | None:
        return self.hints.get("query")

    @cached_property
    def body(self) -> type[BaseModel] | None:
        return self.hints.get("body")

    @property
    def in_path(self) -> tuple[str, ...]:
        """The names of the parameters in the path."""
        return tuple(
            part[1:-1].partition(":")[0] for part in self.path.split("/") if part.startswith("{")
        )

    @property
    def answer(self) -> type[BaseModel] | None:
        """The model of a good answer; None where that is raw."""
        hint = self.hints.get("return")
        if typing.get_origin(hint) is tuple:
            hint = typing.get_args(hint)[1]
        kinds = [kind for kind in typing.get_args(hint) or (hint,) if _is_model(kind)]
        return kinds[0] if kinds else None


def operation(
    method: str,
    path: str,
    *,
    statuses: tuple[int, ...] = (200,),
    raises: tuple[type[EngineError], ...] = (),
    refusals: tuple[Refusal, ...] = (),
    proves: bool = False,
    content: tuple[Content, ...] = (),
    headers: Mapping[str, str] | None = None,
    example: Any = None,
) -> Callable[[Handler], Handler]:
    """Declare a method of a `Routes` to be a route. Several methods of HTTP are written
    `GET|POST`. Errors that every route has need not be named (see api_answers.py)."""

    def declare(handler: Handler) -> Handler:
        declared = Operation(
            methods=tuple(method.split("|")),
            path=path,
            handler=handler,
            statuses=statuses,
            raises=raises,
            refusals=refusals,
            proves=proves,
            content=content,
            headers=headers or {},
            example=example,
        )
        setattr(handler, _MARK, declared)
        return handler

    return declare


class DeclaredRoute(Route):
    """A route that says what it takes and gives."""

    def __init__(self, declared: Operation, handler: Callable[..., Awaitable[Any]]) -> None:
        super().__init__(
            declared.path,
            _endpoint(declared, handler),
            methods=list(declared.methods),
            name=declared.id,
        )
        self.operation = declared


class Routes:
    """Some routes of the API: its methods that are declared with `operation`."""

    def routes(self) -> list[DeclaredRoute]:
        """In the order of their declaration."""
        return [
            DeclaredRoute(declared, getattr(self, name))
            for kind in type(self).__mro__[::-1]
            for name, method in vars(kind).items()
            if (declared := getattr(method, _MARK, None)) is not None
        ]


def answer_of(model: BaseModel, status: int = 200) -> Response:
    """A model as a response. What was not set is left out."""
    text = model.model_dump_json(exclude_unset=True)
    return Response(text, status_code=status, media_type="application/json")


def _endpoint(
    declared: Operation, handler: Callable[..., Awaitable[Any]]
) -> Callable[[Request], Awaitable[Response]]:
    names = inspect.signature(handler).parameters
    path = tuple(name for name in declared.in_path if name in names)
    wants_request = "request" in names
    first = declared.statuses[0]

    async def endpoint(request: Request) -> Response:
        given: dict[str, Any] = {name: request.path_params[name] for name in path}
        if declared.query is not None:
            given["query"] = query_of(declared.query, request)
        if declared.body is not None:
            given["body"] = await body_of(declared.body, request)
        if wants_request:
            given["request"] = request
        answer = await handler(**given)
        if isinstance(answer, BaseModel):
            return answer_of(answer, first)
        if isinstance(answer, tuple):
            status, model = answer
            return answer_of(model, status)
        return cast(Response, answer)

    return endpoint


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
