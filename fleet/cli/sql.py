"""`litefleet sql`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet import DEFAULT_NAME, console
from fleet.cli.executions.target import Target, Url, json_value, shown, words
from fleet.cli.options import Address, Json, Name
from fleet.cli.tables import table

if TYPE_CHECKING:
    from node.api_models_sql import SqlGuide


def sql(
    given: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TENANT] STATEMENT",
            help="One SELECT, after the tenant where neither --url nor --file is given.",
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="LOG", help="A log on this machine, in use or not."),
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Say what can be asked, instead.")
    ] = False,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", metavar="JSON", help="For the next ? in it; repeatable."),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.001, max=10, metavar="SECONDS", help="How long it may take.")
    ] = 2.0,
    rows: Annotated[int, typer.Option(min=1, max=100_000, help="How many at most.")] = 1000,
    tenant: Annotated[
        str | None,
        typer.Option("--tenant", envvar="LITEFLEET_TENANT", help="Whose log, in a fleet."),
    ] = None,
    url: Url = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Ask a tenant's log something in SQL. It only reads, and never holds up the engine."""
    parts = list(given or ())
    if file is None and url is None and len(parts) == (1 if schema else 2):
        tenant = parts.pop(0)
    if len(parts) != (0 if schema else 1):
        raise typer.BadParameter("there is to be one statement", param_hint="STATEMENT")
    values = [json_value(text, "--parameter") for text in parameter or ()]
    if file is not None:
        from fleet.local_sql import LocalLog

        log = LocalLog(file)
        if schema:
            _show_guide(log.guide(), as_json)
            return
        found = log.ask(parts[0], values, timeout, rows)
    else:
        from node.client import calls

        with Target.of(tenant, url, name, address, None).open() as client:
            if schema:
                _show_guide(client.send(calls.sql_schema()), as_json)
                return
            found = client.sql(parts[0], tuple(values), timeout=timeout, rows=rows)
    answer = shown(found)
    if as_json:
        console.print_json(answer)
        return
    _show(answer)


def _show(answer: dict[str, Any]) -> None:
    rows = table(*answer["columns"])
    for row in answer["rows"]:
        rows.add_row(*("" if value is None else words(value) for value in row))
    console.show(rows)
    count = len(answer["rows"])
    more = "; there are more (--rows)" if answer["truncated"] else ""
    console.note(f"{count} row{'' if count == 1 else 's'}, {answer['seconds']:.3f} s{more}")


def _show_guide(guide: SqlGuide, as_json: bool) -> None:
    if as_json:
        console.print_json(shown(guide))
        return
    console.say(guide.dialect)
    for relation in (*guide.views, *guide.tables):
        rows = table(relation.name, relation.description)
        for column in relation.columns:
            rows.add_row(column.name, column.description)
        console.show(rows)
    for example in guide.examples:
        console.say(f"\n{example.question}\n  {example.sql}")
