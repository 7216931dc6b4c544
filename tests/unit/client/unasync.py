"""Makes the client for plain code out of the one for asyncio: they differ in these words only.

python tests/unit/client/unasync.py
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[3] / "node" / "client"
MODULES = ("client", "parts")
NOTE = "# Made from {source} by tests/unit/client/unasync.py: change that, and run this.\n"
#: In this order.
WORDS = [
    (r"for asyncio\b", "for plain code"),
    (r"`async with`", "`with`"),
    (r"\(await (self\.\w+(?:\.\w+)?\(.*\))\)\.", r"\1."),
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\b__a(enter|exit)__", r"__\1__"),
    (r"\baclose\b", "close"),
    (r"\bAsyncIterator\b", "Iterator"),
    (r"\bhttpx\.Async", "httpx."),
    (r"\btenacity\.Async", "tenacity."),
    (r"\bAsync(Client|Handle|Schedules|Queues)\b", r"\1"),
    (r"\bnode\.client\.asyncio_", "node.client.plain_"),
    (r"\b(iterate|carry_out)_async\b", r"\1"),
]


def path(module: str, kind: str) -> Path:
    """Where a module is, for "asyncio" or "plain" code."""
    return FOLDER / f"{kind}_{module}.py"


def made(module: str) -> str:
    """The module as it has to be."""
    source, target = path(module, "asyncio"), path(module, "plain")
    text = source.read_text(encoding="utf-8")
    for before, after in WORDS:
        text = re.sub(before, after, text)
    head, _, rest = text.partition('"""\n\nfrom')
    text = f'{head}"""\n\n{NOTE.format(source=source.name)}\nfrom{rest}'
    for command in (["check", "--select", "I", "--fix", "--quiet"], ["format"]):
        text = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(target), "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    return text


if __name__ == "__main__":
    for each in MODULES:
        path(each, "plain").write_text(made(each), encoding="utf-8")
