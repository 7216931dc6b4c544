"""A user's application, loaded by a command."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from fleet.problem import Problem
from node.engine.application import Application, find_app, load_kept
from node.engine.errors import EngineError


def load(name: str) -> Application:
    """The application in a file or module. Raises Problem with what its code raised."""
    return _tried(name, lambda: find_app(name))


def load_older(sources: Iterable[str], beside: str) -> tuple[Application, ...]:
    """Older versions of an application, each in a folder of its own. Raises Problem with what
    their code raised."""
    return tuple(_tried(one, partial(load_kept, one, beside)) for one in sources)


def _tried(name: str, load: Callable[[], Application]) -> Application:
    try:
        return load()
    except EngineError:
        raise
    except Exception as error:
        words = trace_of(error)
        raise Problem(
            "application_failed", f"{name} cannot be loaded:\n{words}", "Mend it, then try again."
        ) from error


def trace_of(error: BaseException) -> str:
    """What went wrong in a user's code, without the frames that are ours."""
    if isinstance(error, SyntaxError):
        lines = traceback.format_exception_only(error)
    else:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if _is_theirs(frame.filename)]
        lines = traceback.format_list(own) + traceback.format_exception_only(error)
    return "".join(lines).rstrip()


def _is_theirs(filename: str) -> bool:
    here = str(Path(__file__).parents[1])
    ours = [f"{here}/{package}/" for package in ("node", "fleet")]
    return not filename.startswith(("<frozen", importlib.__file__, *ours))
