"""One file for a machine of a fleet, `litefleet.toml`, and what the environment changes of it."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from backup.settings import Credentials, StoreSettings
from fleet.problem import Problem
from fleet.settings import AgentSettings, CoordinatorSettings, ProcessSettings

PREFIX: Final = "LITEFLEET_"
NESTED: Final = "__"
PLACES: Final = (Path("litefleet.toml"), Path("/etc/litefleet/litefleet.toml"))
"""Where the file is looked for, if nobody names it."""
S = TypeVar("S", bound=ProcessSettings)
_COMMON: Final = {"store", "token"}
"""What coordinators and hosts have in common, and is said once."""
_ANY_STORE: Final = StoreSettings(
    endpoint="http://any",
    bucket="any",
    credentials=Credentials(access_key_id="any", secret_access_key=SecretStr("any")),
)


class Config(BaseSettings):
    """What the file may hold. ``address`` is where commands find the fleet's coordinators (several
    with commas between them), ``token`` what they bear. ``coordinator`` and ``host`` are
    `CoordinatorSettings` and `AgentSettings` without ``store`` and ``token``; the host's name is
    ``host.name``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter=NESTED, extra="forbid", frozen=True
    )

    address: str | None = None
    token: SecretStr | None = None
    store: StoreSettings | None = None
    coordinator: dict[str, Any] = Field(default_factory=dict)
    host: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment before the file, which is given as arguments."""
        return (env_settings, init_settings)

    def for_coordinator(self) -> CoordinatorSettings:
        """The settings of a coordinator on this machine. Raises Problem."""
        return _process(CoordinatorSettings, self._common() | self.coordinator, "coordinator")

    def for_host(self) -> AgentSettings:
        """The settings of a host agent on this machine. Raises Problem."""
        own = dict(self.host)
        if "name" in own:
            own["host"] = own.pop("name")
        return _process(AgentSettings, self._common() | own, "host")

    def _common(self) -> dict[str, Any]:
        given = {"store": self.store, "token": self.token}
        missing = [name for name, value in given.items() if value is None]
        if missing:
            raise Problem(
                "incomplete_config",
                f"The configuration has no {' and no '.join(missing)}.",
                "See docs/how-to/configure.md; `litefleet config show` tells what there is.",
            )
        return given


def find(named: Path | None, environment: Mapping[str, str] = os.environ) -> Path | None:
    """The file: the one that was named, by an option or LITEFLEET_CONFIG, or the first of `PLACES`
    that is there; None without one.

    Raises:
        Problem: the one that was named is not there.
    """
    by_name = named or (Path(text) if (text := environment.get("LITEFLEET_CONFIG")) else None)
    if by_name is not None:
        if not by_name.is_file():
            raise Problem("no_config", f"There is no file {by_name}.", "Name another, or none.")
        return by_name
    return next((place for place in PLACES if place.is_file()), None)


def read(file: Path | None) -> dict[str, Any]:
    """What a file says, unchecked; nothing without one. Raises Problem where it is no TOML."""
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Problem("bad_config", f"{file}: {error}", "Mend the file.") from error


def load(named: Path | None = None) -> Config:
    """The configuration of this machine, checked as a whole.

    Raises:
        Problem: a key is unknown or a value is not allowed; the message names it.
    """
    file = find(named)
    try:
        config = Config(**read(file))
    except ValidationError as error:
        raise _problem(error, Config, file, ()) from error
    # Each part is checked where it is given, whoever reads it, and whatever else is missing.
    whole = config.model_copy(
        update={
            "store": config.store or _ANY_STORE,
            "token": config.token or SecretStr("any"),
        }
    )
    if config.coordinator:
        whole.for_coordinator()
    if config.host:
        whole.for_host()
    return config


def origins(named: Path | None = None) -> Iterator[tuple[str, Any, str]]:
    """Every value that is set: its key, the value, and where it comes from. Secrets are stars.
    Raises Problem as `load` does."""
    file, config = find(named), load(named)
    from_environment = _flat(EnvSettingsSource(Config)())
    shown = _flat(config.model_dump(mode="json", exclude_none=True))
    given = _flat(read(file))
    for key in sorted(shown):
        if key in from_environment:
            yield key, _masked(key, shown[key]), "environment"
        elif key in given:
            yield key, _masked(key, shown[key]), str(file)


def _masked(key: str, value: Any) -> Any:
    secret = any(word in key for word in ("secret", "token"))
    return "**********" if secret and value else value


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{before}{name}"
        if isinstance(value, Mapping):
            found |= _flat(value, f"{key}.")
        else:
            found[key] = value
    return found


def _process(model: type[S], values: dict[str, Any], part: str) -> S:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _problem(error, model, find(None), (part,)) from error


def _problem(
    error: ValidationError, model: type[BaseModel], file: Path | None, before: tuple[str, ...]
) -> Problem:
    found = error.errors()
    # A name that is wrong explains what is missing.
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    where = ".".join([*before, *map(str, first["loc"])])
    place = f"{file}: " if file is not None else ""
    if first["type"] != "extra_forbidden":
        return Problem(
            "bad_config", f"{place}{where}: {first['msg']}", "See docs/reference/settings.md."
        )
    known = _keys_at(model, first["loc"][:-1]) - (_COMMON if before else set())
    near = difflib.get_close_matches(str(first["loc"][-1]), known, 1)
    hint = (
        f"Did you mean {'.'.join([*where.split('.')[:-1], near[0]])}?"
        if near
        else (f"Known there: {', '.join(sorted(known))}.")
    )
    return Problem("unknown_key", f"{place}there is no setting {where}.", hint)


def _keys_at(model: type[BaseModel], place: tuple[int | str, ...]) -> set[str]:
    for step in place:
        field = model.model_fields.get(str(step))
        inner = [field.annotation] if field is not None else []
        inner += list(getattr(field.annotation, "__args__", ())) if field is not None else []
        models = [one for one in inner if isinstance(one, type) and issubclass(one, BaseModel)]
        if not models:
            return set()
        model = models[0]
    return set(model.model_fields)
