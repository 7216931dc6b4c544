"""Where a process's log goes, and in which form: lines of JSON, or text for people."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from node.engine.lines import FIELDS, mark

LEVEL_VARIABLE: Final = "LITEFLEET_LOG_LEVEL"
FORMAT_VARIABLE: Final = "LITEFLEET_LOG_FORMAT"
BYTES_VARIABLE: Final = "LITEFLEET_LOG_BYTES"
#: Bytes of a log's file before it is put aside, and how many such files are kept.
FILE_BYTES: Final = 4 * 1024 * 1024
KEPT: Final = 3

LEVELS: Final = ("debug", "info", "warning", "error", "critical")
#: These tell of every request, at a level at which an application tells of its work.
_CHATTY: Final = ("httpx", "httpcore", "uvicorn", "uvicorn.access", "botocore", "boto3", "urllib3")
_OURS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", *FIELDS}
_traces: Final = logging.Formatter()


class BadLogSetting(ValueError):
    """A variable says what cannot be."""


def as_line(record: logging.LogRecord) -> dict[str, Any]:
    """A record as one flat object. What was given as `extra` is in it under its own name."""
    line: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": record.getMessage(),
    }
    mark(record)
    known = vars(record)
    line |= {name: known[name] for name in FIELDS if known[name] is not None}
    line |= {name: value for name, value in known.items() if name not in _OURS}
    if trace := trace_of(record):
        line["exception"] = trace
    return line


def trace_of(record: logging.LogRecord) -> str:
    """The traceback that was logged with it, if any."""
    if record.exc_text:
        return record.exc_text
    return _traces.formatException(record.exc_info) if record.exc_info else ""


class JsonFormatter(logging.Formatter):
    """One object of JSON a line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(as_line(record), default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """Text for people: what was said first, whose it is behind."""

    def format(self, record: logging.LogRecord) -> str:
        line = as_line(record)
        text = f"{line.pop('time')} {line.pop('level').upper():<8} {line.pop('logger')}: "
        text += line.pop("message")
        trace = line.pop("exception", "")
        about = " ".join(f"{name}={value}" for name, value in line.items())
        return f"{text}  [{about}]" + (f"\n{trace}" if trace else "")


class LogFile(logging.Handler):
    """Writes to this process's standard output and error, which are the file at `path`.

    A full file is put aside as `path` with `.1` behind it, and so on up to `kept`. What the code
    prints goes into the same file, and counts with the next line or `look`.
    """

    def __init__(self, path: Path, size: int = FILE_BYTES, kept: int = KEPT) -> None:
        super().__init__()
        self._path = path
        self._size = size
        self._kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stdout.flush()
            os.write(2, (self.format(record) + "\n").encode(errors="backslashreplace"))
            self.look()
        except Exception:
            self.handleError(record)

    def look(self) -> None:
        """Put the file aside if it is full."""
        if os.fstat(2).st_size >= self._size:
            assert self.lock is not None
            with self.lock:
                for number in range(self._kept - 1, 0, -1):
                    older = Path(f"{self._path}.{number}")
                    if older.exists():
                        older.rename(f"{self._path}.{number + 1}")
                self._path.rename(f"{self._path}.1")
                fresh = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                os.dup2(fresh, 1)
                os.dup2(fresh, 2)
                os.close(fresh)


class Teller(logging.Handler):
    """Hands each line on as an object."""

    def __init__(self, tell: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._tell(as_line(record))
        except Exception:
            self.handleError(record)


def log_to_file(path: Path, environment: Mapping[str, str]) -> LogFile:
    """Send everything that is logged to the file that is this process's standard error, as the
    environment says. Raises BadLogSetting."""
    size = environment.get(BYTES_VARIABLE, str(FILE_BYTES))
    if not size.isdecimal() or int(size) < 4096:
        raise BadLogSetting(f"{BYTES_VARIABLE} is {size!r}; it is a number of bytes, from 4096")
    form = environment.get(FORMAT_VARIABLE, "json")
    if form not in ("json", "text"):
        raise BadLogSetting(f"{FORMAT_VARIABLE} is {form!r}; it is json or text")
    file = LogFile(path, int(size))
    file.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    log_with(file, environment)
    return file


def log_with(handler: logging.Handler, environment: Mapping[str, str]) -> None:
    """Send everything that is logged to a handler, from the environment's level on. Raises
    BadLogSetting."""
    level = environment.get(LEVEL_VARIABLE, "info")
    if level.lower() not in LEVELS:
        raise BadLogSetting(f"{LEVEL_VARIABLE} is {level!r}; it is one of {', '.join(LEVELS)}")
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
