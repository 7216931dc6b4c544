"""`litefleet dev`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fleet import console
from fleet.cli.options import Json
from fleet.cli.upgrade import Keep


def dev(
    app: Annotated[
        str, typer.Argument(metavar="APP", help="A file such as app.py, or package.module.")
    ],
    db: Annotated[Path, typer.Option(metavar="FILE", help="The log.")] = Path(".litefleet/dev.db"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8787,
    host: Annotated[str, typer.Option(help="Nothing there asks who you are.")] = "127.0.0.1",
    practice: Annotated[
        bool, typer.Option("--practice", help="Take this machine's disk for the bucket.")
    ] = False,
    keep: Keep = None,
    reload: Annotated[bool, typer.Option(help="Load the code again when it changes.")] = True,
    as_json: Json = False,
) -> None:
    """Run an application here, without a fleet, and load it again when its files change.

    The log is a local file, and the engine's HTTP API is served without a token. Nothing is
    replicated: this is for writing workflows, not for keeping them.
    """
    from fleet.dev.runner import DevSettings, is_loopback, run_dev
    from fleet.dev.screen import Screen, print_line

    if not is_loopback(host):
        console.note(f"anyone who can reach {host} can use the engine: there is no token here")
    settings = DevSettings(
        app=app,
        kept=tuple(keep or ()),
        database=db,
        host=host,
        port=port,
        practice=practice,
        reload=reload,
    )
    run_dev(settings, print_line if as_json else Screen(console.out))
