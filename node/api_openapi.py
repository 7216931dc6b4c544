"""The API's OpenAPI document, made from the routes as they are declared and from the application.

It is made when somebody asks for it: an engine that nobody asks pays nothing for it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter

from node.api_answers import RETRY_AFTER, status_of, type_of
from node.api_models import ErrorShown
from node.api_route import Content, DeclaredRoute, Operation, Refusal
from node.engine.application import Application
from node.engine.definition import Workflow
from node.engine.describing import given_schema, summary_of, with_defaults
from node.engine.errors import DurabilityUnavailable, EngineError, EngineStopped

OPENAPI: Final = "3.1.0"
#: The path that stands for every workflow, each of which has an operation of its own.
WORKFLOW_PATH: Final = "/workflows/{workflow}"
_REF: Final = "#/components/schemas/{model}"
_JSON: Final = "application/json"
_EPOCH: Final = {"litefleet-epoch": {"$ref": "#/components/headers/Epoch"}}
_IN_PATH: Final = {
    "id": "The execution's id.",
    "name": "Its name.",
    "token": "The token, as the workflow gave it.",
    "path": "The webhook's path.",
    "workflow": "The workflow's name.",
}
_DESCRIPTION: Final = """\
One tenant's engine: durable workflows, their executions and their log.

A good answer to what changes something is given once it is proven durable in the bucket, unless
it was asked with `ack: async`; then it says `durable: false` with its bookmark. 503 says that the
outcome is unknown: ask again after Retry-After seconds, with the same id or key.
"""
_BAD_REQUEST: Final = Refusal("bad_request", 422, "The request is not what the operation takes.")
_INTERNAL: Final = Refusal("internal", 500, "The engine made a mistake; its log has the details.")
_UNPROVEN: Final = Refusal(
    "unproven", 503, "It could not be proven durable in time; it may last or not."
)


def openapi(routes: Sequence[DeclaredRoute], application: Application) -> dict[str, Any]:
    """The document for these routes and this application's workflows."""
    declared = [route.operation for route in routes]
    schemas = _Schemas(declared, application)
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for one in declared:
        for method in one.methods:
            described = _operation(one, method, schemas)
            paths[_path(one.path)][method.lower()] = described
            if one.path == WORKFLOW_PATH and method == "POST":
                for workflow in application.workflows.values():
                    path = WORKFLOW_PATH.replace("{workflow}", workflow.name)
                    paths[path]["post"] = _workflow(workflow, described, schemas)
    return {
        "openapi": OPENAPI,
        "info": {
            "title": f"Litefleet engine: {application.name}",
            "version": application.version or _version(),
            "description": _DESCRIPTION,
        },
        "servers": [{"url": ".", "description": "Beside this document."}],
        "security": [{}, {"token": []}],
        "paths": dict(paths),
        "components": {
            "schemas": schemas.definitions,
            "headers": {
                "Epoch": {
                    "description": "The ownership generation of the engine that answered.",
                    "schema": {"type": "string"},
                },
                "RetryAfter": {
                    "description": "Seconds after which to ask again.",
                    "schema": {"type": "integer"},
                    "example": RETRY_AFTER,
                },
            },
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The fleet's token, at its gateway. An engine by itself asks "
                    "for none.",
                }
            },
        },
    }


class _Schemas:
    """The schemas of every model and every workflow, each in its place once."""

    def __init__(self, declared: Iterable[Operation], application: Application) -> None:
        asked = {m for one in declared for m in (one.query, one.body) if m is not None}
        shown = {ErrorShown} | {one.answer for one in declared if one.answer is not None}
        wanted: list[tuple[Any, Any, TypeAdapter[Any]]] = []
        wanted += [(model, "validation", TypeAdapter(model)) for model in sorted(asked, key=_name)]
        wanted += [
            (model, "serialization", TypeAdapter(model)) for model in sorted(shown, key=_name)
        ]
        for workflow in application.workflows.values():
            given, result = workflow.codec.adapters
            if given_schema(given, "validation") is not None:
                wanted.append(((workflow.name, "input"), "validation", given))
            if given_schema(result, "serialization") is not None:
                wanted.append(((workflow.name, "result"), "serialization", result))
        found, common = TypeAdapter.json_schemas(wanted, ref_template=_REF)
        self.definitions: dict[str, Any] = dict(common.get("$defs", {}))
        self._of: dict[Any, Any] = {key: schema for (key, _), schema in found.items()}
        for key, schema in list(self._of.items()):
            if isinstance(key, type) and "$ref" not in schema:
                self.definitions[key.__name__] = schema
                self._of[key] = {"$ref": _REF.format(model=key.__name__)}
        for workflow in application.workflows.values():
            given_as = (workflow.name, "input")
            schema = self._resolved(self._of.get(given_as, {}))
            self._of[given_as] = with_defaults(schema, workflow.codec)

    def of(self, model: type[BaseModel]) -> dict[str, Any]:
        """Where a model's schema is."""
        return dict(self._of[model])

    def parameters(self, model: type[BaseModel]) -> dict[str, Any]:
        """The schema itself of what is asked in a query string. It is in no body."""
        return self._resolved(self._of[model])

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        if "$ref" not in schema:
            return schema
        return dict(self.definitions[schema["$ref"].rpartition("/")[2]])

    def workflow(self, name: str, what: str) -> dict[str, Any]:
        """A workflow's input or result; an empty schema where it has none."""
        return dict(self._of.get((name, what), {}))


def _operation(one: Operation, method: str, schemas: _Schemas) -> dict[str, Any]:
    several = len(one.methods) > 1
    described: dict[str, Any] = {
        "operationId": f"{one.id}_{method.lower()}" if several else one.id,
        "summary": summary_of(one.description),
        "description": one.description,
        "tags": [one.path.split("/")[1].partition(".")[0]],
    }
    parameters = [*_in_path(one), *_in_query(one, schemas), *_in_headers(one)]
    if parameters:
        described["parameters"] = parameters
    if one.body is not None:
        content: dict[str, Any] = {"schema": schemas.of(one.body)}
        if one.example is not None:
            content["example"] = one.example
        required = any(field.is_required() for field in one.body.model_fields.values())
        described["requestBody"] = {"required": required, "content": {_JSON: content}}
    described["responses"] = {**_good(one, schemas), **_bad(one, schemas)}
    return described


def _in_path(one: Operation) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _IN_PATH.get(name, f"The {name}."),
            "schema": {"type": "string", "minLength": 1},
        }
        for name in one.in_path
    ]


def _in_query(one: Operation, schemas: _Schemas) -> list[dict[str, Any]]:
    if one.query is None:
        return []
    schema = schemas.parameters(one.query)
    parameters = []
    for name, found in schema.get("properties", {}).items():
        about = {key: value for key, value in found.items() if key not in ("title", "description")}
        parameter = {"name": name, "in": "query", "schema": about}
        if "description" in found:
            parameter["description"] = found["description"]
        if name in schema.get("required", ()):
            parameter["required"] = True
        parameters.append(parameter)
    return parameters


def _in_headers(one: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "header", "description": about, "schema": {"type": "string"}}
        for name, about in one.headers.items()
    ]


def _good(one: Operation, schemas: _Schemas) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if one.answer is not None:
        content[_JSON] = {"schema": schemas.of(one.answer)}
    for raw in one.content:
        content[raw.media_type] = _raw(raw)
    about = "; ".join(raw.description for raw in one.content) if one.answer is None else ""
    return {
        str(status): {
            "description": about or _STATUSES.get(status, "It is done."),
            "headers": _EPOCH,
            **({"content": content} if content else {}),
        }
        for status in one.statuses
    }


def _raw(content: Content) -> dict[str, Any]:
    if content.schema is not None:
        return {"schema": dict(content.schema)}
    return {"schema": {"type": "string", "description": content.description}}


_STATUSES: Final = {
    200: "What was asked for.",
    201: "It was made.",
    202: "It was taken.",
}


def errors_of(one: Operation) -> Mapping[int, Mapping[str, str]]:
    """The errors that an operation may be answered with: their names and meanings, by status."""
    raised: list[type[EngineError]] = [*one.raises, EngineStopped]
    others = [*one.refusals, _INTERNAL]
    if one.proves:
        raised.append(DurabilityUnavailable)
        others.append(_UNPROVEN)
    if one.query is not None or one.body is not None:
        others.append(_BAD_REQUEST)
    found: dict[int, dict[str, str]] = defaultdict(dict)
    for kind in raised:
        found[status_of(kind)][type_of(kind)] = summary_of(kind.__doc__ or "")
    for refusal in others:
        found[refusal.status][refusal.type] = refusal.description
    return found


def _bad(one: Operation, schemas: _Schemas) -> dict[str, Any]:
    responses = {}
    for status, errors in sorted(errors_of(one).items()):
        words = "\n".join(f"- `{name}`: {about}" for name, about in errors.items())
        kinds = {"properties": {"type": {"enum": list(errors)}}}
        schema = {**schemas.of(ErrorShown), "properties": {"error": kinds}}
        headers: dict[str, Any] = dict(_EPOCH)
        if status == 503:
            headers["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}
        responses[str(status)] = {
            "description": words,
            "headers": headers,
            "content": {_JSON: {"schema": schema}},
        }
    return responses


def _workflow(
    workflow: Workflow[..., Any], template: Mapping[str, Any], schemas: _Schemas
) -> dict[str, Any]:
    """The operation of one workflow: the same as every one's, with its own input and result."""
    about = workflow.function.__doc__ or ""
    responses = {**template["responses"]}
    result = schemas.workflow(workflow.name, "result")
    for status in ("200", "201"):
        answer = responses[status]["content"][_JSON]["schema"]
        schema = {**answer, "properties": {"result": result}}
        responses[status] = {**responses[status], "content": {_JSON: {"schema": schema}}}
    given = schemas.workflow(workflow.name, "input") or {"type": "object"}
    return {
        **template,
        "operationId": f"start_{re.sub(r'[^A-Za-z0-9_]', '_', workflow.name)}",
        "summary": summary_of(about) or f"Start {workflow.name}.",
        "description": about or template["description"],
        "parameters": [one for one in template["parameters"] if one["in"] != "path"],
        "requestBody": {
            "required": bool(given.get("required")),
            "content": {_JSON: {"schema": given}},
        },
        "responses": responses,
    }


def _path(path: str) -> str:
    return re.sub(r"\{(\w+):\w+\}", r"{\1}", path)


def _name(model: type[BaseModel]) -> str:
    return model.__name__


def _version() -> str:
    try:
        return version("litefleet")
    except PackageNotFoundError:
        return "0"
