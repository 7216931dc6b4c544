"""`litefleet exec fork`, `export` and `import`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from fleet import DEFAULT_NAME, console
from fleet.cli.executions.target import (
    AckOption,
    Id,
    Input,
    Target,
    Tenant,
    Url,
    Values,
    arguments,
    origin_words,
)
from fleet.cli.options import Address, Json, Name
from fleet.cli.tables import table
from fleet.problem import Problem

app = typer.Typer()
At = Annotated[
    str | None,
    typer.Option(metavar="STEP", help="A step, such as charge#2, or the number of an event."),
]
NewId = Annotated[str | None, typer.Option("--id", help="Its id. By default one is made up.")]
Messages = Annotated[
    bool,
    typer.Option(help="Send it the signals and updates again that came after what it has."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say which steps would run, and why.")]


class ImportMode(StrEnum):
    """What is made of an archive."""

    RECORD = "record"
    EXACT = "exact"
    REUSE = "reuse"


@app.command()
def fork(
    id: Id,
    values: Values = None,
    input: Input = None,
    at: At = None,
    reuse: Annotated[
        bool,
        typer.Option(
            "--reuse",
            help="Begin anew, and run only steps whose version or arguments have changed.",
        ),
    ] = False,
    new_id: NewId = None,
    messages: Messages = True,
    paused: Annotated[bool, typer.Option("--paused", help="Do not let it go on yet.")] = False,
    dry_run: DryRun = False,
    tenant: Tenant = None,
    url: Url = None,
    ack: AckOption = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Make a new execution from another one, which stays as it is.

    It goes on from a step, or from the failure. With --reuse it begins anew: KEY=VALUE changes
    single arguments, --input all of them.
    """
    given = arguments(values, input)
    with Target.of(tenant, url, name, address, ack).executions() as executions:
        if values and input is None:
            given = {**executions.show(id)["input"], **given}
        changed = given if values or input is not None else None
        answer = executions.fork(
            id,
            new_id=new_id,
            dry_run=dry_run,
            at=_place(at),
            mode="reuse" if reuse or changed is not None else "exact",
            input=changed,
            messages=messages,
            paused=paused,
        )
    _show(answer, dry_run, as_json)


@app.command()
def export(
    id: Id,
    to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to; stdout by default.")
    ] = None,
    with_children: Annotated[
        bool, typer.Option("--with-children", help="Also the executions that it started.")
    ] = False,
    tenant: Tenant = None,
    url: Url = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Write one execution with its whole log to a file, for `replay` and `exec import`.

    The file holds what the execution's tokens are made with: treat it as its data.
    """
    if to is not None and to.exists():
        raise Problem("exists", f"{to} exists.", "Name another file, or remove it first.")
    with Target.of(tenant, url, name, address, None).executions() as executions:
        archive = executions.archive(id, with_children)
    if to is None:
        console.print_json(archive)
        return
    to.write_text(json.dumps(archive, indent=1) + "\n", encoding="utf-8")
    about = {
        "file": str(to),
        "execution": id,
        "events": len(archive["rows"]),
        "children": _count(archive) - 1,
    }
    if as_json:
        console.print_json(about)
    else:
        more = f" and {about['children']} that it started" if about["children"] else ""
        console.note(f"{about['events']} events of {id}{more} are in {to}")


@app.command("import")
def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="An export.")
    ],
    values: Values = None,
    input: Input = None,
    mode: Annotated[
        ImportMode,
        typer.Option(help="A closed record, or one that goes on here: as `exec fork` does."),
    ] = ImportMode.RECORD,
    at: At = None,
    new_id: NewId = None,
    messages: Messages = True,
    paused: Annotated[bool, typer.Option(help="Wait for `exec resume` before it goes on.")] = True,
    dry_run: DryRun = False,
    tenant: Tenant = None,
    url: Url = None,
    ack: AckOption = None,
    name: Name = DEFAULT_NAME,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Make an execution from one that was exported, perhaps elsewhere."""
    given = arguments(values, input) if values or input is not None else None
    try:
        archive = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Problem(
            "no_archive", f"{file} is no JSON: {error}.", "Name what `litefleet exec export` wrote."
        ) from error
    if not isinstance(archive, dict):
        raise Problem(
            "no_archive", f"{file} is no archive.", "Name what `litefleet exec export` wrote."
        )
    with Target.of(tenant, url, name, address, ack).executions() as executions:
        answer = executions.import_(
            archive,
            new_id=new_id,
            dry_run=dry_run,
            at=_place(at),
            mode=mode.value,
            input=given,
            messages=messages,
            paused=paused,
        )
    _show(answer, dry_run, as_json)


def _count(archive: dict[str, Any]) -> int:
    return 1 + sum(_count(child) for child in archive["children"])


def _place(at: str | None) -> int | str | None:
    return int(at) if at is not None and at.isdigit() else at


def _show(answer: dict[str, Any], planned: bool, as_json: bool) -> None:
    if as_json:
        console.print_json(answer)
    elif planned:
        rows = table("step", "what", "why")
        for one in answer["steps"]:
            step = one["name"] + (f" #{one['occurrence']}" if one["occurrence"] > 1 else "")
            rows.add_row(step, one["action"] + ("" if one["certain"] else "?"), one["why"])
        console.show(rows)
        console.note(f"then: {answer['ends']}. Nothing was done.")
        if any(one["action"] != "unknown" and not one["certain"] for one in answer["steps"]):
            console.note("?: if the steps that run again give what they gave before")
    else:
        console.say(answer["id"])
        paused = ", paused" if answer["paused"] else ""
        console.note(
            f"{answer['workflow']} is {answer['status']}{paused}, made from"
            f" {origin_words(answer['forked_from'])}"
        )
        for step, token in answer["tokens"].items():
            console.note(f"it waits for {step}, whose token is now {token}")
