"""An HTTP request as the function of a webhook sees it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload
from urllib.parse import parse_qsl

from pydantic import TypeAdapter, ValidationError

from node.engine.errors import WebhookRefused, WebhookUnreadable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """One request to a webhook. The names of `headers` are in lower case."""

    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"

    def __post_init__(self) -> None:
        object.__setattr__(self, "headers", joined(self.headers.items()))

    @overload
    def json(self) -> Any: ...
    @overload
    def json(self, shape: type[T]) -> T: ...
    def json(self, shape: Any = Any) -> Any:
        """The body as JSON, of the type `shape` if one is given. Raises WebhookUnreadable, which
        answers the sender with 400."""
        try:
            return TypeAdapter(shape).validate_json(self.body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise WebhookUnreadable(
                f"the body is not what is expected: {where}: {first['msg']}"
            ) from error

    def form(self) -> dict[str, str]:
        """The body as a form (`application/x-www-form-urlencoded`); the last of each name.
        Raises WebhookUnreadable."""
        try:
            return dict(parse_qsl(self.body.decode(), keep_blank_values=True, max_num_fields=1000))
        except ValueError as error:
            raise WebhookUnreadable("the body is not a form") from error

    def header(self, name: str) -> str:
        """A header that has to be there. Raises WebhookRefused."""
        value = self.headers.get(name.lower())
        if value is None:
            raise WebhookRefused(f"the header {name} is missing")
        return value


def joined(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Headers by lower-case name; what comes several times is joined as HTTP has it, so that no
    second signature stands in for the first."""
    found: dict[str, str] = {}
    for name, value in headers:
        key = name.lower()
        found[key] = f"{found[key]}, {value}" if key in found else value
    return found
