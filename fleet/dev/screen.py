"""What happens in a developer's engine, for people and for programs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from rich.console import Console
from rich.text import Text

#: Characters of a value that a line shows.
SHOWN: Final = 160
_MARKS: Final = {
    "completed": ("✓", "green"),
    "failed": ("✗", "red"),
    "cancelled": ("-", "yellow"),
    "terminated": ("-", "yellow"),
}
_LEVELS: Final = {
    "debug": "dim",
    "warning": "yellow",
    "error": "red",
    "critical": "bold red",
}
Line = dict[str, Any]


def print_line(line: Line) -> None:
    """The line as it is, as JSON on stdout."""
    sys.stdout.write(json.dumps(line, default=str) + "\n")
    sys.stdout.flush()


class Screen:
    """Shows lines to people."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._show: dict[str, Callable[[Line], Text | None]] = {
            "execution_started": self._started,
            "execution_continued": lambda line: self._about(line, "↻", "cyan", "goes on as new"),
            "execution_closed": self._closed,
            "execution_diverged": self._diverged,
            "execution_waits": self._waits,
            "step_completed": self._step_completed,
            "step_retry": self._step_retry,
            "step_failed": self._step_failed,
            "step_cancelled": lambda line: self._step(line, "-", "yellow", "cancelled"),
            "log": self._logged,
            "serving": self._serving,
            "changed": self._changed,
            "refused": self._refused,
            "failed": self._refused,
            "ended": self._ended,
            "stopped": lambda line: _text(line, "stopped", "dim"),
        }

    def __call__(self, line: Line) -> None:
        """Show one line; those that say nothing new to people are left out."""
        show = self._show.get(line["event"])
        text = show(line) if show is not None else None
        if text is not None:
            self._console.print(text, soft_wrap=True)

    def _about(self, line: Line, mark: str, style: str, words: str) -> Text:
        text = _text(line, f"{mark} ", style)
        text.append(f"{line['workflow']} ", "bold").append(f"{line['execution']} ", "cyan")
        return text.append(words)

    def _started(self, line: Line) -> Text:
        return self._about(line, "▶", "blue", "started")

    def _closed(self, line: Line) -> Text:
        mark, style = _MARKS.get(line["status"], ("•", "white"))
        text = self._about(line, mark, style, "")
        text.append(f"{line['status']} in {_seconds(line['seconds'])}", style)
        if "result" in line:
            return text if line["result"] is None else text.append(f" → {_short(line['result'])}")
        return text.append(f": {_error(line['error'])}")

    def _diverged(self, line: Line) -> Text:
        text = self._about(line, "≠", "bold red", "")
        if "sequence" not in line:
            return text.append(f"is stopped: {line['message']}\n", "red").append(_hint(line))
        text.append(f"diverges from its log at event {line['sequence']}\n", "bold red")
        text.append(
            f"{'':12}the log holds  {line['logged']}\n{'':12}the code did   {line['did']}\n"
        )
        return text.append(_hint(line))

    def _waits(self, line: Line) -> Text:
        words = ", ".join(_wait(wait) for wait in line["for"])
        return self._about(line, "…", "dim", f"waits for {words}")

    def _step(self, line: Line, mark: str, style: str, words: str) -> Text:
        text = _text(line, f"  {mark} ", style)
        text.append(f"{line['workflow']} {line['execution']} ", "dim")
        text.append(line["step"])
        if line["occurrence"] > 1:
            text.append(f"#{line['occurrence']}", "dim")
        return text.append(f" {words}")

    def _step_completed(self, line: Line) -> Text:
        tries = f", attempt {line['attempt']}" if line["attempt"] > 1 else ""
        return self._step(line, "✓", "green", f"{_seconds(line['seconds'])}{tries}")

    def _step_retry(self, line: Line) -> Text:
        words = f"attempt {line['attempt']} failed after {_seconds(line['seconds'])}: "
        again = f"; again in {_seconds(line['retry_in'])}"
        return self._step(line, "↺", "yellow", words + _error(line["error"]) + again)

    def _step_failed(self, line: Line) -> Text:
        words = f"failed for good after {line['attempt']} attempts: {_error(line['error'])}"
        return self._step(line, "✗", "red", words)

    def _logged(self, line: Line) -> Text:
        style = _LEVELS.get(line["level"], "")
        text = _text(line, "  | ", "dim")
        if line.get("execution"):
            text.append(f"{line['workflow']} {line['execution']} ", "dim")
        if line.get("step"):
            number = f"#{line['occurrence']}" if line["occurrence"] > 1 else ""
            tries = f" attempt {line['attempt']}" if line["attempt"] > 1 else ""
            text.append(f"{line['step']}{number}{tries} ", "dim")
        if line["level"] != "info":
            text.append(f"{line['level']} ", style)
        text.append(line["message"], style)
        if line.get("exception"):
            text.append("\n" + "\n".join(f"{'':12}{one}" for one in line["exception"].split("\n")))
        return text

    def _serving(self, line: Line) -> Text:
        names = ", ".join(line["workflows"])
        text = _text(line, f"serving {names} at {line['url']}", "bold")
        running = line["executions"]["running"]
        going_on = f", {running} executions go on" if running else ""
        text.append(f"\n{'':12}log: {line['database']}{going_on}; Ctrl-C stops", "dim")
        if line["practice"]:
            text.append(f"\n{'':12}--practice: this disk counts as the bucket", "yellow")
        return text

    def _changed(self, line: Line) -> Text:
        return _text(line, f"changed: {', '.join(line['files'])}", "bold")

    def _refused(self, line: Line) -> Text:
        text = _text(line, f"{line['type']}: {line['message']}", "bold red")
        if line.get("trace"):
            text.append("\n" + "\n".join(f"{'':12}{one}" for one in line["trace"].split("\n")))
        if line.get("hint"):
            text.append("\n" + _hint(line))
        if "serving" in line:
            still = "the code before it still serves" if line["serving"] else "nothing serves"
            text.append(f"\n{'':12}{still}; the log is as it was. Waiting for a change.", "dim")
        return text

    def _ended(self, line: Line) -> Text:
        return _text(
            line, f"the engine ended with status {line['status']}. Waiting for a change.", "red"
        )


def _text(line: Line, words: str, style: str) -> Text:
    at = datetime.fromtimestamp(line["at"]).strftime("%H:%M:%S")
    return Text(f"{at}  ", style="dim").append(Text(words, style=style))


def _hint(line: Line) -> str:
    return f"{'':12}next: {line['hint']}" if line.get("hint") else ""


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _error(error: Any) -> str:
    if isinstance(error, dict) and "type" in error:
        return f"{error['type']}: {error.get('message', '')}".rstrip(": ")
    return _short(error)


def _wait(wait: dict[str, Any]) -> str:
    if wait["kind"] == "timer" and wait["until"] is not None:
        left = max(0.0, wait["until"] - time.time())
        return f"a timer, {_seconds(left)} more"
    if wait["kind"] in ("pause", "nothing"):
        return str(wait["wakes"])
    name = f" {wait['name']}" if wait["name"] else ""
    return f"{wait['kind']}{name}"


def _seconds(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min"
