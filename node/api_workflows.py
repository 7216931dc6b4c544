"""The engine's HTTP API for workflows: what there is, and a way to start each by its own path."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from starlette.requests import Request

from node.api_answers import Answers, trace_of
from node.api_executions import CLOSED, START_ERRORS, outcome_of
from node.api_models_application import (
    Ran,
    RunQuery,
    VersionList,
    VersionShown,
    WorkflowInput,
    WorkflowList,
    WorkflowShown,
)
from node.api_route import Routes, operation
from node.engine.definition import Workflow
from node.engine.engine import Engine
from node.engine.errors import UnknownWorkflow

_ONE: Final = "/workflows/{workflow}"


class WorkflowsApi(Routes):
    """Routes for workflows."""

    def __init__(self, engine: Engine, answers: Answers) -> None:
        self.engine = engine
        self.answers = answers
        self._described: dict[str, WorkflowShown] = {}

    @operation("GET", "/workflows")
    async def list_workflows(self) -> WorkflowList:
        """Every workflow with the JSON Schemas of its input, its result and the messages that
        it takes."""
        application = self.engine.config.application
        items = [self._describe(one) for one in application.workflows.values()]
        return WorkflowList(application=application.name, version=application.version, items=items)

    @operation("GET", "/versions")
    async def list_versions(self) -> VersionList:
        """The versions of the application, and how many open executions need each."""
        found = self.engine.versions()
        return VersionList(items=[VersionShown(**asdict(one)) for one in found])

    @operation("GET", _ONE, raises=(UnknownWorkflow,))
    async def show_workflow(self, workflow: str) -> WorkflowShown:
        """One workflow, as in the list of them."""
        found = self.engine.config.application.workflows.get(workflow)
        if found is None:
            raise UnknownWorkflow(f"no workflow {workflow!r}")
        return self._describe(found)

    @operation("POST", _ONE, statuses=(201, 200), raises=START_ERRORS, proves=True)
    async def start_workflow(
        self, workflow: str, query: RunQuery, body: WorkflowInput, request: Request
    ) -> tuple[int, Ran]:
        """Start a workflow with the body as its input, and wait up to `wait` seconds for its
        result: 201, or 200 when an execution of that id, workflow and input exists."""
        self.answers.admit(query.ack, "a start")
        started = await self.engine.start(
            workflow,
            body.root,
            id=query.id,
            reuse=query.reuse,
            queue=query.queue,
            priority=query.priority,
            dedup=query.dedup,
            partition=query.partition,
            trace=trace_of(request),
            labels={name: value for name, _, value in (one.partition("=") for one in query.label)},
        )
        view = started.view
        if query.wait and view.status not in CLOSED:
            view = await self.engine.result(view.id, wait=query.wait)
        standing = await self.answers.proven(view.sequence, query.ack)
        answer = Ran(
            id=view.id,
            workflow=view.workflow,
            status=view.status,
            **(outcome_of(view) if view.status in CLOSED else {}),
            **standing,
        )
        return 201 if started.created else 200, answer

    def _describe(self, workflow: Workflow[..., object]) -> WorkflowShown:
        # Its source is read when somebody asks for it first.
        from node.engine.describing import describe_workflow

        found = self._described.get(workflow.name)
        if found is None:
            found = WorkflowShown(
                **asdict(describe_workflow(workflow)),
                durability=workflow.durability,
                queue=None if workflow.queue is None else workflow.queue.name,
            )
            self._described[workflow.name] = found
        return found
