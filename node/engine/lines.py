"""What code logs: every record says whose it is, and a replay logs nothing.

Each record of any logger gets the FIELDS as attributes. What a workflow logs is kept until the
event that its turn is about is in the log, and only then given to the handlers: a turn whose event
was lost is run again, and would log it again. A crash right after the commit can lose a line;
nothing makes one twice.
"""

from __future__ import annotations

import logging
import threading
import traceback
from asyncio.events import _get_running_loop
from collections.abc import Iterable
from typing import Final

from node.engine.context import current_activity
from node.engine.loop import Line, WorkflowLoop

#: What every record has, None where it does not apply.
FIELDS: Final = ("tenant", "epoch", "execution", "workflow", "step", "occurrence", "attempt")

_original = logging.Logger.handle
_installed = threading.Lock()
_process: dict[str, object] = {}
_traces: Final = logging.Formatter()


def install(tenant: str, epoch: int) -> None:
    """Mark the records of this process, and keep what workflows log; the newest engine of the
    process gives tenant and epoch."""
    _process.update(tenant=tenant, epoch=epoch)
    with _installed:
        # In this one place every record comes by, whatever handlers an application has added.
        if logging.Logger.handle is _original:
            logging.Logger.handle = _handle  # type: ignore[assignment, method-assign]


def emit(lines: Iterable[Line]) -> None:
    """Give kept records to the handlers."""
    for logger, record in lines:
        try:
            _original(logger, record)
        except Exception:
            # A handler of the application's, which has no workflow above it to fail here.
            traceback.print_exc()


def _handle(logger: logging.Logger, record: logging.LogRecord) -> None:
    loop = _get_running_loop()
    if not isinstance(loop, WorkflowLoop):
        mark(record)
        _original(logger, record)
    elif not loop.silent:
        _settle(record)
        mark(record, loop.owner.about)
        loop.owner.said.append((logger, record))


def mark(record: logging.LogRecord, about: dict[str, object] | None = None) -> None:
    """Give a record the fields that it has not: `about` a workflow, else of the attempt that
    runs here, if one does."""
    known = record.__dict__
    if about is None:
        info = current_activity.get(None)
        about = {} if info is None else info.about
    for name in FIELDS:
        if name not in known:
            known[name] = about[name] if name in about else _process.get(name)


def _settle(record: logging.LogRecord) -> None:
    """Make text of what the code may change, or should not be kept alive, until it is emitted."""
    record.msg, record.args = record.getMessage(), None
    if record.exc_info:
        record.exc_text = record.exc_text or _traces.formatException(record.exc_info)
        record.exc_info = None
