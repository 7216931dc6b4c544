"""`litefleet resume`: releases the brake on failovers."""

from __future__ import annotations

from fleet import DEFAULT_NAME, console
from fleet.cli import connection
from fleet.cli.options import Address, Json, Name


def resume(name: Name = DEFAULT_NAME, address: Address = None, as_json: Json = False) -> None:
    """Release the brake that holds failovers back when very many hosts are lost at once."""
    with connection.connect(name, address) as client:
        client.resume()
    if as_json:
        console.print_json({"ok": True})
    else:
        console.note("the fleet goes on")
