"""`litefleet config …`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fleet import console
from fleet.cli.options import ConfigFile, Json
from fleet.cli.tables import table

app = typer.Typer(help="Look at litefleet.toml, and check it.", no_args_is_help=True)


@app.command("show")
def config_show(config: ConfigFile = None, as_json: Json = False) -> None:
    """Show what is set, and where: in the environment, or in the file. Secrets are stars."""
    from fleet import config as configuration

    file = configuration.find(config)
    found = list(configuration.origins(config))
    if as_json:
        values = [{"key": key, "value": value, "from": where} for key, value, where in found]
        console.print_json({"file": None if file is None else str(file), "values": values})
        return
    rows = table("key", "value", "from")
    for key, value, where in found:
        rows.add_row(key, str(value), where)
    console.show(rows)
    if file is None:
        console.note("there is no litefleet.toml; docs/how-to/configure.md says where it may be")


@app.command("check")
def config_check(
    file: Annotated[Path, typer.Argument(help="The file.")], as_json: Json = False
) -> None:
    """Check a file without running anything: every key is known, every value allowed."""
    from fleet.config import load

    config = load(file)
    parts = [name for name in ("coordinator", "host") if getattr(config, name)]
    if as_json:
        console.print_json({"file": str(file), "ok": True, "parts": parts})
    else:
        console.note(f"{file} is well{f': {chr(44).join(parts)}' if parts else ''}")
