"""The documentation names all that there is to use, and its links lead somewhere.

Every check is given the text of a document, so that its broken twin can be the same document with
one entry taken out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import typer
from pydantic import BaseModel
from starlette.routing import Route

import backup.limits
import backup.settings
import fleet.agent.api
import fleet.coordinator.api
import fleet.history_views
import fleet.settings
import fleet.views
import node
import node.api
import node.client
from fleet.cli import app
from fleet.demo.report import Report
from node.client.requests import Filters, Options

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
PACKAGES = ("backup", "restore", "node", "fleet", "examples")
METHODS = frozenset(fleet.coordinator.api.METHODS)


def read(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def headings(text: str) -> Iterator[tuple[int, int, str]]:
    """Where each heading begins, its level, and its words; code blocks are passed over."""
    inside, at = False, 0
    for line in text.splitlines(keepends=True):
        if line.startswith("```"):
            inside = not inside
        elif not inside and (match := re.match(r"(#+) (.*)", line)):
            yield at, len(match[1]), match[2].strip()
        at += len(line)


def sections(text: str) -> dict[str, str]:
    """The text under each heading, up to the next one of whatever level."""
    found = list(headings(text))
    ends = [at for at, _, _ in found[1:]] + [len(text)]
    return {words: text[at:end] for (at, _, words), end in zip(found, ends, strict=True)}


def chapter(text: str, wanted: str) -> str:
    """The text under a heading, with the headings below it."""
    found = list(headings(text))
    for number, (at, level, words) in enumerate(found):
        if words == wanted:
            ends = [end for end, other, _ in found[number + 1 :] if other <= level]
            return text[at : min(ends, default=len(text))]
    return ""


def without(text: str, entry: str) -> str:
    """The text with every line that has `entry` taken out: a broken twin."""
    kept = [line for line in text.splitlines(keepends=True) if entry not in line]
    assert len(kept) < len(text.splitlines()), f"there is no {entry!r} to take out"
    return "".join(kept)


# -- commands and options ------------------------------------------------------------------------


def commands() -> dict[str, set[str]]:
    """Every command with the options that its own help shows."""
    found: dict[str, set[str]] = {}

    def walk(command: Any, name: str) -> None:
        # By what they have, not by class: Typer may bring a click of its own.
        found[name] = {
            option
            for parameter in command.params
            if parameter.param_type_name == "option"
            for option in (*parameter.opts, *parameter.secondary_opts)
            if option.startswith("--")
        }
        for child, below in getattr(command, "commands", {}).items():
            walk(below, f"{name} {child}")

    walk(typer.main.get_command(app), "litefleet")
    return found


def undocumented_commands(text: str) -> list[str]:
    found = sections(text)
    missing = []
    for command, options in commands().items():
        if command not in found:
            missing.append(command)
            continue
        missing += [
            f"{command} {option}"
            for option in sorted(options)
            if f"`{option}`" not in found[command]
        ]
    return missing


def test_every_command_and_option_is_documented() -> None:
    assert len(commands()) >= 12
    assert undocumented_commands(read("cli.md")) == []


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("### litefleet host list", "litefleet host list"),
        ("`--no-watch`", "litefleet lag --no-watch"),
        ("`--seed`", "litefleet demo --seed"),
        ("`--durability`", "litefleet tenant create --durability"),
    ],
)
def test_a_missing_command_or_option_is_noticed(entry: str, told: str) -> None:
    assert told in undocumented_commands(without(read("cli.md"), entry))


# -- fields of models ----------------------------------------------------------------------------


def models_of(module: object) -> list[type[BaseModel]]:
    """The models that a module declares itself."""
    return [
        thing
        for thing in vars(module).values()
        if isinstance(thing, type)
        and issubclass(thing, BaseModel)
        and thing.__module__ == getattr(module, "__name__", "")
    ]


def settings() -> dict[str, set[str]]:
    """The keys of each settings file, and of what is nested in it."""
    found = {
        model.__name__: set(model.model_fields)
        for module in (fleet.settings, backup.settings, backup.limits)
        for model in models_of(module)
    }
    # The part that the two files have in common; its keys are in each of them.
    del found["ProcessSettings"]
    return found


def schema_fields(model: type[BaseModel]) -> dict[str, set[str]]:
    """The fields of a model and of every model in it."""
    schema = model.model_json_schema(mode="serialization")
    parts = {model.__name__: schema, **schema.get("$defs", {})}
    return {name: set(part["properties"]) for name, part in parts.items() if "properties" in part}


def views() -> dict[str, set[str]]:
    shown = (fleet.views.TenantView, fleet.views.HostView, fleet.views.LagView)
    found: dict[str, set[str]] = {}
    for model in (
        *shown,
        fleet.views.TimelineEntry,
        fleet.views.CoordinatorView,
        fleet.history_views.OperationView,
    ):
        found |= schema_fields(model)
    # The report's page has these two.
    return {name: some for name, some in found.items() if not name.startswith("Recovery")}


def undocumented_fields(text: str, wanted: Mapping[str, Iterable[str]]) -> list[str]:
    """Fields that are not in the section of their model, as code."""
    found = sections(text)
    return [
        f"{model}.{field}"
        for model, fields in wanted.items()
        for field in sorted(fields)
        if f"`{field}`" not in found.get(model, "")
    ]


PAGES: dict[str, Callable[[], Mapping[str, set[str]]]] = {
    "settings.md": settings,
    "report.md": lambda: schema_fields(Report),
    "http-api.md": views,
}


@pytest.mark.parametrize("page", PAGES)
def test_every_field_is_documented(page: str) -> None:
    wanted = PAGES[page]()
    assert sum(map(len, wanted.values())) >= 15
    assert undocumented_fields(read(page), wanted) == []


@pytest.mark.parametrize(
    ("page", "entry", "told"),
    [
        ("settings.md", "| `read_timeout` |", "StoreSettings.read_timeout"),
        ("settings.md", "| `advertise` |", "AgentSettings.advertise"),
        ("settings.md", "| `issuer` |", "CoordinatorSettings.issuer"),
        ("report.md", "| `retries` |", "Report.retries"),
        ("report.md", "| `verify` |", "RecoverySplit.verify"),
        ("report.md", "## ZombieReport", "ZombieReport.asked"),
        ("http-api.md", "| `proven_at` |", "TenantView.proven_at"),
        ("http-api.md", "| `incarnation` |", "HostView.incarnation"),
    ],
)
def test_a_missing_field_is_noticed(page: str, entry: str, told: str) -> None:
    assert told in undocumented_fields(without(read(page), entry), PAGES[page]())


# -- environment variables -----------------------------------------------------------------------


def source() -> str:
    files = (file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py")))
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def undocumented_variables(text: str, code: str) -> list[str]:
    """Variables of the project's own, and of AWS's, that the code names and the text does not."""
    named = set(re.findall(r"\b(?:LITEFLEET|AWS)_[A-Z0-9]+(?:_[A-Z0-9]+)*\b", code))
    ignored = {"AWS_CA_BUNDLE"}  # named to say that it is kept away from the sidecar
    return sorted(name for name in named - ignored if f"`{name}`" not in text)


def test_every_environment_variable_is_documented() -> None:
    assert undocumented_variables(read("settings.md"), source()) == []


def test_a_missing_environment_variable_is_noticed() -> None:
    text = read("settings.md")
    assert undocumented_variables(without(text, "| `LITEFLEET_HOME` |"), source()) == [
        "LITEFLEET_HOME"
    ]
    assert undocumented_variables(text, 'os.environ["LITEFLEET_NEW"]') == ["LITEFLEET_NEW"]


# -- HTTP paths ----------------------------------------------------------------------------------


def routes() -> dict[str, set[str]]:
    """What each of the three applications answers, as `METHOD /path`."""
    nothing = cast(Any, None)
    engine = cast(Any, SimpleNamespace(config=SimpleNamespace(epoch=1)))
    apps = {
        "Coordinator": fleet.coordinator.api.create_app(nothing, "token"),
        "Engine": node.api.create_api(engine),
        "Host agent": fleet.agent.api.create_app(nothing, "token"),
    }
    return {
        name: {one for route in each.routes if isinstance(route, Route) for one in _named(route)}
        for name, each in apps.items()
    }


def _named(route: Route) -> Iterator[str]:
    path = re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path)
    methods = set(route.methods or ())
    # A gateway passes on whatever method it is given.
    for method in ["ANY"] if methods >= METHODS else methods - {"HEAD", "OPTIONS"}:
        yield f"{method} {path}"


def undocumented_paths(text: str) -> list[str]:
    """Paths that are in no heading of their application's chapter."""
    missing = []
    for name, paths in routes().items():
        shown = " ".join(words for _, _, words in headings(chapter(text, name)))
        missing += [f"{name}: {path}" for path in sorted(paths) if f"`{path}`" not in shown]
    return missing


def test_every_http_path_is_documented() -> None:
    assert {name: len(paths) for name, paths in routes().items() if len(paths) < 5} == {}
    assert undocumented_paths(read("http-api.md")) == []


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("### `POST /api/resume`", "Coordinator: POST /api/resume"),
        ("### `GET /executions/{id}/events`", "Engine: GET /executions/{id}/events"),
        ("### `POST /api/nodes/{tenant}/drain`", "Host agent: POST /api/nodes/{tenant}/drain"),
        ("### `ANY /{tenant}/{path}`", "Host agent: ANY /{tenant}/{path}"),
        ("### `GET /healthz`", "Coordinator: GET /healthz"),
    ],
)
def test_a_missing_http_path_is_noticed(entry: str, told: str) -> None:
    assert told in undocumented_paths(without(read("http-api.md"), entry))


# -- the SDK -------------------------------------------------------------------------------------


def undocumented_names(text: str) -> list[str]:
    """Names that tenants import and that no code of the page begins with."""
    return [
        name for name in node.__all__ if not re.search(rf"`(?:await |@)?{name}\b[^`\n]*`", text)
    ]


def test_every_name_that_tenants_import_is_documented() -> None:
    assert undocumented_names(read("engine.md")) == []


@pytest.mark.parametrize("name", ["RetryLater", "RetryPolicy", "WorkflowInfo"])
def test_a_missing_name_is_noticed(name: str) -> None:
    assert undocumented_names(without(read("engine.md"), name)) == [name]


# -- the client ----------------------------------------------------------------------------------


def undocumented_in_client(text: str) -> list[str]:
    """Names that callers import, methods and filters that no code of the page has."""
    methods = {
        name
        for kind in (node.client.Client, node.client.Handle)
        for name, thing in vars(kind).items()
        if callable(thing) and not name.startswith("_")
    } - {"send", "close"}
    wanted = {*node.client.__all__, *methods, *Filters.__annotations__, *Options.__annotations__}
    code = " ".join(re.findall(r"`([^`]+)`", text))
    return sorted(name for name in wanted if not re.search(rf"\b{name}\b", code))


def test_everything_of_the_client_is_documented() -> None:
    assert undocumented_in_client(read("client.md")) == []


@pytest.mark.parametrize("name", ["NotOver", "terminate", "id_prefix", "AsyncClient"])
def test_a_missing_part_of_the_client_is_noticed(name: str) -> None:
    assert name in undocumented_in_client(without(read("client.md"), name))


# -- links ---------------------------------------------------------------------------------------


def pages() -> list[Path]:
    found = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    return sorted(found)


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    found: set[str] = set()
    for _, _, words in headings(text):
        slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        number, unique = 0, slug
        while unique in found:
            number += 1
            unique = f"{slug}-{number}"
        found.add(unique)
    return found


def dead_links(page: Path, text: str) -> list[str]:
    """Relative links of a page that lead to no file, or to no heading in it."""
    dead = []
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or not target.is_relative_to(ROOT):
            dead.append(link)
        elif anchor:
            there = text if target == page else target.read_text(encoding="utf-8")
            if anchor not in anchors(there):
                dead.append(link)
    return dead


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_is_dead(page: Path) -> None:
    assert dead_links(page, page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("link", "replaced"),
    [
        ("](docs/quickstart.md)", "](docs/slowstart.md)"),
        ("](#how-it-compares)", "](#how-it-compared)"),
        ("](docs/how-to/use-your-own-store.md#what-is-probed)", "](docs/quickstart.md#nothing)"),
        ("](LICENSE)", "](../LICENSE)"),
    ],
)
def test_a_dead_link_is_noticed(link: str, replaced: str) -> None:
    page = ROOT / "README.md"
    text = page.read_text(encoding="utf-8")
    assert link in text
    assert dead_links(page, text.replace(link, replaced)) == [replaced[2:-1]] * text.count(link)


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    todo = [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        links = re.findall(r"\]\(([^)#\s:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        todo += [(page.parent / link).resolve() for link in links]
    assert set(pages()) - reached == set()
