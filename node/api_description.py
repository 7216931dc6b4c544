"""The engine's HTTP API about itself: how the engine stands, and what the API is."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from starlette.responses import Response

from node.api_models import EngineStatus
from node.api_route import Content, DeclaredRoute, Routes, operation
from node.engine.engine import Engine

_DOCUMENT = Content("application/json", "The OpenAPI document.", {"type": "object"})


class DescriptionApi(Routes):
    """Routes for the engine itself. `others` are the routes beside these."""

    def __init__(self, engine: Engine, others: Sequence[DeclaredRoute]) -> None:
        self.engine = engine
        self.others = others
        self.started_at = time.monotonic()
        self._document: bytes | None = None

    @operation("GET", "/status")
    async def status(self) -> EngineStatus:
        """How the engine stands."""
        engine = self.engine
        return EngineStatus(
            tenant=engine.config.tenant,
            lineage=engine.config.lineage,
            epoch=engine.config.epoch,
            executions=engine.counts,
            sequence=engine.sequence,
            proven_sequence=engine.proven,
            committed_at=engine.committed_at,
            uptime=time.monotonic() - self.started_at,
        )

    @operation("GET", "/openapi.json", content=(_DOCUMENT,))
    async def openapi_document(self) -> Response:
        """This document: every operation, with what it takes, gives and answers when it fails,
        and each workflow of the application as an operation of its own."""
        if self._document is None:
            # Most engines are never asked for it.
            from node.api_openapi import openapi

            document = openapi([*self.others, *self.routes()], self.engine.config.application)
            self._document = json.dumps(document, ensure_ascii=False).encode()
        return Response(self._document, media_type="application/json")
