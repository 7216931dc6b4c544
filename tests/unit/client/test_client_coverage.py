"""Whatever the API can do, the client can ask for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from starlette.routing import Match

from node.api import create_api
from node.api_models import StartRequest, StreamQuery, WaitingQuery
from node.api_models_finding import BulkRequest, CountQuery, ListQuery
from node.api_models_forks import ForkRequest, ImportRequest
from node.api_models_log import LogQuery
from node.api_models_retention import PruneRequest
from node.api_models_schedules import (
    BackfillRequest,
    CreateScheduleRequest,
    ScheduleRequest,
    TriggerRequest,
)
from node.client import calls
from node.client.calls import Call
from node.client.requests import query_request, signal_request, update_request
from tests.integration.engine.openapi_checks import declared_routes

#: What is for other programs than a client: scrapers, code generators, senders of webhooks; and
#: the start of a workflow by its own path, which is `start` in other words.
OTHERS = {"metrics", "openapi_document", "receive_webhook", "start_workflow"}


def asked() -> list[Call[Any]]:
    """One of each call."""
    return [
        calls.start(StartRequest(workflow="w", id="a")),
        calls.page(ListQuery()),
        calls.count(CountQuery()),
        calls.bulk(BulkRequest(action="cancel", all=True)),
        calls.sql("SELECT 1", (), None, None),
        calls.sql_schema(),
        calls.show("a"),
        calls.events("a", 0),
        calls.result("a", 0, "async"),
        calls.signal("a", *signal_request("s", 1, "k", "async")),
        calls.update("a", "u", update_request({}, "k", "async")),
        calls.query("a", "q", query_request({}, "async")),
        *(calls.stop("a", action, "", "async") for action in ("cancel", "terminate")),
        *(calls.control("a", action, "async") for action in ("pause", "resume", "retry")),
        calls.pin("a", None, "async"),
        calls.unpin("a", "async"),
        calls.remove("a", "async"),
        calls.hold("a", "", "async"),
        calls.release("a", "async"),
        calls.retention(),
        calls.prune(PruneRequest()),
        calls.waiting("a"),
        calls.all_waiting(WaitingQuery()),
        calls.archive("a"),
        calls.fork("a", ForkRequest()),
        calls.bring(ImportRequest(archive={})),
        calls.streams("a"),
        calls.stream("a", "s", StreamQuery()),
        calls.complete("t", 1, "async"),
        calls.queues(),
        calls.queue("q"),
        *(calls.steer_queue("q", action, "async") for action in ("pause", "resume")),
        calls.schedules(),
        calls.schedule("s"),
        calls.create_schedule(CreateScheduleRequest(id="s")),
        calls.replace_schedule("s", ScheduleRequest()),
        calls.delete_schedule("s", "async"),
        *(calls.steer_schedule("s", action, "", "async") for action in ("pause", "resume")),
        calls.trigger_schedule("s", TriggerRequest()),
        calls.backfill_schedule("s", BackfillRequest(start=0, end=1)),
        calls.log(LogQuery()),
        calls.versions(),
        calls.webhooks(),
        calls.workflow("w"),
        calls.workflows(),
        calls.status(),
    ]


def test_each_operation_has_a_call_that_it_answers() -> None:
    engine: Any = SimpleNamespace(
        config=SimpleNamespace(epoch=1, application=SimpleNamespace(webhooks=[])), observers=[]
    )
    routes = declared_routes(create_api(engine))
    seen = set()
    for call in asked():
        scope = {"type": "http", "method": call.method, "path": call.path, "root_path": ""}
        route = next(one for one in routes if one.matches(scope)[0] is Match.FULL)
        seen.add(route.operation.id)
        assert route.operation.answer in (call.answer, None), (call.path, call.answer)
    assert {route.operation.id for route in routes} - OTHERS == seen
