"""The world outside the fleet: a receiver that keeps a ledger of every effect it sees.

It stands for the payment provider or mail server that an activity calls. It honours idempotency
keys as such services do: a repeated key gets the first answer again. The ledger shows both, what
arrived and what counted, and so it can tell whether a lost host repeated or lost an effect.

    python -m examples.receiver --port 0 --ledger effects.jsonl --address-file address
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

MAX_BODY = 1 << 20
MAX_PAGE = 10_000


@dataclass(frozen=True, slots=True)
class Effect:
    """One arrival. ``n`` counts all arrivals from 1; ``at`` is the UNIX time of the arrival."""

    n: int
    key: str
    tenant: str
    execution: str
    step: str
    attempt: int
    body: Any
    digest: str
    at: float
    duplicate: bool


class Ledger:
    """Every arrival in order, in memory and in an append-only file of JSON lines.

    An existing file is read back first, so that a receiver can be restarted. Safe for threads.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self.arrivals: list[Effect] = []
        self._first: dict[str, Effect] = {}
        if path.exists():
            with path.open(encoding="utf-8") as lines:
                # A last line that was cut short was never answered, so it never counted.
                for line in lines:
                    if line.endswith("\n"):
                        self._remember(Effect(**json.loads(line)))
        self._file = path.open("a", encoding="utf-8")
        self._mend(path)

    def record(
        self, *, key: str, tenant: str, execution: str, step: str, attempt: int, body: Any
    ) -> tuple[Effect, Effect]:
        """Enter an arrival. Returns it and the first one with its key; on disk when it returns."""
        canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
        with self._lock:
            effect = Effect(
                n=len(self.arrivals) + 1,
                key=key,
                tenant=tenant,
                execution=execution,
                step=step,
                attempt=attempt,
                body=body,
                digest=hashlib.sha256(canonical.encode()).hexdigest(),
                at=self._clock(),
                duplicate=key in self._first,
            )
            self._file.write(json.dumps(asdict(effect), separators=(",", ":")) + "\n")
            self._file.flush()
            os.fdatasync(self._file.fileno())
            self._remember(effect)
            return effect, self._first[key]

    def page(self, after: int, limit: int) -> tuple[list[Effect], int | None]:
        """Arrivals with ``n`` above ``after``, and the ``n`` to go on from (None: that was all)."""
        with self._lock:
            items = self.arrivals[after : after + limit]
            more = after + len(items) < len(self.arrivals)
            return items, items[-1].n if items and more else None

    def counts(self) -> dict[str, Any]:
        """How many requests arrived, how many effects they were, in all and for each tenant."""
        total = _zero()
        tenants: dict[str, dict[str, int]] = {}
        with self._lock:
            for effect in self.arrivals:
                for counter in (total, tenants.setdefault(effect.tenant, _zero())):
                    counter["arrivals"] += 1
                    counter["duplicates" if effect.duplicate else "effects"] += 1
        return {**total, "tenants": tenants}

    def close(self) -> None:
        self._file.close()

    def _remember(self, effect: Effect) -> None:
        self.arrivals.append(effect)
        self._first.setdefault(effect.key, effect)

    def _mend(self, path: Path) -> None:
        """Begin on a new line: cut off a last one that is not whole."""
        content = path.read_bytes()
        if content and not content.endswith(b"\n"):
            self._file.truncate(content.rfind(b"\n") + 1)


def _zero() -> dict[str, int]:
    return {"arrivals": 0, "effects": 0, "duplicates": 0}


def create_app(ledger: Ledger) -> Starlette:
    """The receiver's HTTP interface over a ledger."""

    async def effects_post(request: Request) -> JSONResponse:
        key = request.headers.get("idempotency-key", "")
        if not key:
            return _refuse(400, "missing_key", "The header Idempotency-Key is missing.")
        attempt = request.headers.get("litefleet-attempt", "1")
        if not attempt.isdecimal():
            return _refuse(400, "bad_attempt", "The header Litefleet-Attempt is not a number.")
        raw = bytearray()
        async for chunk in request.stream():
            raw += chunk
            if len(raw) > MAX_BODY:
                return _refuse(413, "too_large", f"The body is larger than {MAX_BODY} bytes.")
        try:
            body = json.loads(raw)
        except ValueError as error:
            return _refuse(400, "not_json", f"The body is not JSON: {error}")
        # On the loop, not in a thread: it is one short write, and order matters.
        effect, first = ledger.record(
            key=key,
            tenant=request.headers.get("litefleet-tenant", ""),
            execution=request.headers.get("litefleet-execution", ""),
            step=request.headers.get("litefleet-step", ""),
            attempt=int(attempt),
            body=body,
        )
        return JSONResponse(
            {"receipt": first.n, "key": key},
            headers={"Litefleet-Duplicate": "true"} if effect.duplicate else None,
        )

    async def effects_get(request: Request) -> JSONResponse:
        after = request.query_params.get("after", "0")
        limit = request.query_params.get("limit", "1000")
        if not (after.isdecimal() and limit.isdecimal() and 0 < int(limit) <= MAX_PAGE):
            return _refuse(
                400, "bad_page", f"`after` must be a number, `limit` one from 1 to {MAX_PAGE}."
            )
        items, following = ledger.page(int(after), int(limit))
        return JSONResponse({"items": [asdict(item) for item in items], "next": following})

    async def counts(request: Request) -> JSONResponse:
        return JSONResponse(ledger.counts())

    async def healthz(request: Request) -> JSONResponse:
        return JSONResponse({"ok": True})

    return Starlette(
        routes=[
            Route("/effects", effects_post, methods=["POST"]),
            Route("/effects", effects_get, methods=["GET"]),
            Route("/counts", counts),
            Route("/healthz", healthz),
        ]
    )


def _refuse(status: int, kind: str, message: str) -> JSONResponse:
    return JSONResponse({"error": {"type": kind, "message": message}}, status_code=status)


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.receiver", description="Receive effects and keep a ledger of them."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 (the default) takes a free one")
    parser.add_argument("--ledger", type=Path, required=True, help="JSON lines, appended to")
    parser.add_argument("--address-file", type=Path, help="write the base URL there when ready")
    options = parser.parse_args(argv)

    try:
        ledger = Ledger(options.ledger)
        # Named as TCP, or asyncio leaves Nagle's algorithm on and every answer takes 40 ms.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((options.host, options.port))
        listener.listen(1024)
    except OSError as error:
        print(f"receiver: {error}", file=sys.stderr)
        return 1
    port = listener.getsockname()[1]
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(ledger),
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=2,
            lifespan="off",
        )
    )
    if options.address_file:
        # The socket listens already: a connection made now waits until the server takes it.
        _write_whole(options.address_file, f"http://{options.host}:{port}\n")
    # After its orderly end uvicorn raises the signal that it got once more.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server.run(sockets=[listener])
    ledger.close()
    return 0


def _write_whole(path: Path, text: str) -> None:
    """Write a file so that it is seen with all of its text or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


if __name__ == "__main__":
    sys.exit(main())
