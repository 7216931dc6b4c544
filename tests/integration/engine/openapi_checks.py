"""Holds every answer of an engine's API against the API's own OpenAPI document."""

from __future__ import annotations

import json
from copy import deepcopy
from functools import cached_property
from typing import Any, cast

import httpx
from jsonschema import Draft202012Validator
from jsonschema_path import SchemaPath
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.applications import Starlette
from starlette.routing import Match

from node.api_openapi import openapi
from node.api_route import DeclaredRoute
from node.engine.application import Application


class Undeclared(AssertionError):
    """An answer, or a route, that the document does not know."""


def declared_routes(api: Starlette) -> list[DeclaredRoute]:
    """Its routes. Raises Undeclared for one that does not say what it takes and gives."""
    for route in api.routes:
        if not isinstance(route, DeclaredRoute):
            raise Undeclared(f"{route} is not declared with @operation")
    return cast("list[DeclaredRoute]", list(api.routes))


def check_document(document: dict[str, Any]) -> None:
    """Raises OpenAPIValidationError, and Undeclared for an operation without a description."""
    OpenAPIV31SpecValidator(SchemaPath.from_dict(cast(Any, document))).validate()
    for path, methods in document["paths"].items():
        for method, one in methods.items():
            if not one["description"].strip() or not one["summary"].strip():
                raise Undeclared(f"{method} {path} has no description")


def strict(document: dict[str, Any]) -> dict[str, Any]:
    """The document, with every model closed to fields that it does not name."""
    twin = deepcopy(document)
    for schema in twin["components"]["schemas"].values():
        if schema.get("type") == "object" and "properties" in schema:
            schema.setdefault("additionalProperties", False)
    return twin


class Checked(httpx.AsyncBaseTransport):
    """The way to an API in this process. `seen` are the operations that were answered."""

    def __init__(self, api: Starlette, application: Application) -> None:
        self.api = api
        self.application = application
        self.seen: set[str] = set()
        self._inner = httpx.ASGITransport(api)

    @cached_property
    def document(self) -> dict[str, Any]:
        return strict(openapi(declared_routes(self.api), self.application))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self._inner.handle_async_request(request)
        if answer.headers.get("content-type", "") != "application/json":
            self._check(request, answer, None)
            return answer
        body = await answer.aread()
        self._check(request, answer, json.loads(body))
        return httpx.Response(answer.status_code, headers=answer.headers, content=body)

    def _check(self, request: httpx.Request, answer: httpx.Response, body: Any) -> None:
        path = request.url.path
        route = self._route(request.method, path)
        if route is None:
            assert answer.status_code in (404, 405), f"{request.method} {path} is in no document"
            return
        methods = self.document["paths"].get(path) or self.document["paths"][_plain(route.path)]
        if request.method.lower() not in methods:
            methods = self.document["paths"][_plain(route.path)]
        one = methods[request.method.lower()]
        what = f"{request.method} {path}: {answer.status_code} {body}"
        found = one["responses"].get(str(answer.status_code))
        if found is None:
            raise Undeclared(f"{what}: no such status is declared")
        media = answer.headers.get("content-type", "").partition(";")[0]
        content = found.get("content", {}).get(media)
        if content is None and "receive_webhook" not in one["operationId"]:
            raise Undeclared(f"{what}: no such content is declared: {media}")
        if body is not None and content is not None:
            schema = {**content["schema"], "components": self.document["components"]}
            for error in Draft202012Validator(schema).iter_errors(body):
                raise Undeclared(f"{what}: {error.json_path}: {error.message}")
        if answer.is_success:
            self.seen.add(f"{request.method} {route.path}")

    def _route(self, method: str, path: str) -> DeclaredRoute | None:
        scope = {"type": "http", "path": path, "method": method, "root_path": ""}
        for route in declared_routes(self.api):
            if route.matches(scope)[0] is Match.FULL:
                return route
        return None


def _plain(path: str) -> str:
    return path.replace(":path}", "}")
