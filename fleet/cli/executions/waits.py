"""What executions wait for, as a tree for people: children below those that wait for them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import typer

from fleet.cli.executions.target import clock, error_words, words

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
#: What is said in words of its own.
_SAID: Final = frozenset(
    {"id", "diverged", "status", "waits", "attempt", "max_attempts", "last_error", "running_since"}
)
Wait = Mapping[str, Any]


def seconds_of(text: str) -> float:
    """Seconds of 90, 90s, 15m, 2h or 1d. Raises BadParameter."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip())
    if match is None:
        raise typer.BadParameter(
            f"{text!r} is no time; write 90s, 15m, 2h or 1d", param_hint="--longer-than"
        )
    return float(match[1]) * _UNITS[match[2]]


def tree_of(about: Mapping[str, Any], waits: Sequence[Wait], now: float) -> Tree:
    """An execution, what it waits for, and what its children wait for. `now` in unix seconds."""
    from rich.text import Text
    from rich.tree import Tree

    head = Text(str(about["id"]), "bold cyan")
    if "workflow" in about:
        head.append(f"  {about['workflow']}, {about['status']}", "default")
        head.append(f"  for {_length(now - about['since'])}", "dim")
    tree = Tree(head)
    _add(tree, waits, now)
    return tree


def stack_words(stacks: Sequence[Mapping[str, Any]]) -> Text:
    """Where each task of the code stands, the innermost line last."""
    from rich.text import Text

    text = Text()
    for stack in stacks:
        if stack["places"]:
            text.append(f"\n{stack['task']} stands at\n", "bold")
        for place in stack["places"]:
            text.append(f"  {place['file']}:{place['line']}", "cyan")
            text.append(f" in {place['function']}\n")
    return text


def _add(tree: Tree, waits: Sequence[Wait], now: float) -> None:
    for wait in waits:
        branch = tree.add(_words(wait, now))
        below = wait["detail"].get("waits") or []
        _add(branch, below, now)


def _words(wait: Wait, now: float) -> Text:
    from rich.text import Text

    detail = wait["detail"]
    occurrence = wait["occurrence"] or 1
    number = f" #{occurrence}" if occurrence > 1 else ""
    name = "" if wait["name"].startswith("(") else f" {wait['name']}"
    text = Text(f"{wait['kind']}{name}{number}", "bold")
    if "id" in detail:
        text.append(f" {detail['id']}", "cyan").append(f" ({detail.get('status', 'ended')})")
    text.append(f": {wait['wakes']}")
    if wait["until"] is not None:
        text.append(f", {_until(wait['until'] - now)}", "yellow")
    if wait["since"] is not None:
        since = f"\nsince {clock(wait['since'])}, {_length(now - wait['since'])}"
        text.append(since, "dim")
    if "attempt" in detail:
        most = f" of {detail['max_attempts']}" if "max_attempts" in detail else ""
        text.append(f"\nattempt {detail['attempt']}{most}", "dim")
        if "running_since" in detail:
            text.append(f", running for {_length(now - detail['running_since'])}", "dim")
    if "last_error" in detail:
        text.append(f"\nlast error: {error_words(detail['last_error'])}", "red")
    left = {key: value for key, value in detail.items() if key not in _SAID}
    if left:
        text.append(f"\n{words(left)}", "dim")
    if wait.get("where"):
        text.append(f"\nat {wait['where']}", "dim")
    return text


def _until(seconds: float) -> str:
    return f"{_length(seconds)} more" if seconds > 0 else "due now"


def _length(seconds: float) -> str:
    seconds = max(0.0, seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
