"""litefleet.toml: found, checked, and changed by the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.config import find, load, origins
from fleet.problem import Problem

WHOLE = """
address = "http://coordinator:8300"
token = "secret-token"

[store]
endpoint = "http://store:8333"
bucket = "fleets"
prefix = "fleet"

[store.credentials]
access_key_id = "id"
secret_access_key = "very-secret"

[coordinator]
listen_host = "0.0.0.0"
listen_port = 8300

[coordinator.chores]
drill_every = 3600

[host]
name = "host-1"
data = "/srv/host-1"

[host.limits]
memory_bytes = 1073741824
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("LITEFLEET_CONFIG", "LITEFLEET_TOKEN", "LITEFLEET_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "litefleet.toml"
    path.write_text(WHOLE)
    return path


def test_one_file_has_all_that_a_machine_needs(file: Path) -> None:
    config = load()
    coordinator, host = config.for_coordinator(), config.for_host()
    assert (coordinator.listen_port, coordinator.chores.drill_every) == (8300, 3600)
    assert (host.host, host.data, host.limits.memory_bytes) == (
        "host-1",
        Path("/srv/host-1"),
        1 << 30,
    )
    for one in (coordinator, host):
        assert one.token.get_secret_value() == "secret-token"
        assert one.store.credentials.secret_access_key.get_secret_value() == "very-secret"


def test_the_environment_comes_before_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITEFLEET_TOKEN", "other")
    monkeypatch.setenv("LITEFLEET_HOST__NAME", "host-9")
    monkeypatch.setenv("LITEFLEET_COORDINATOR__CHORES__DRILL_EVERY", "60")
    monkeypatch.setenv("LITEFLEET_STORE__CREDENTIALS__SECRET_ACCESS_KEY", "from-outside")
    config = load()
    assert config.for_host().host == "host-9"
    assert config.for_coordinator().chores.drill_every == 60.0
    assert config.for_coordinator().listen_port == 8300
    assert config.for_host().token.get_secret_value() == "other"
    found = {key: (value, where) for key, value, where in origins()}
    assert found["host.name"] == ("host-9", "environment")
    assert found["store.bucket"] == ("fleets", "litefleet.toml")
    # No secret is shown, whoever gave it.
    shown = repr(found)
    assert not [word for word in ("other", "from-outside", "very-secret") if word in shown]
    assert found["token"][1] == "environment"


@pytest.mark.parametrize(
    ("change", "words", "hint"),
    [
        (("[store]", "[stor]"), "there is no setting stor", "store"),
        (("drill_every", "dril_every"), "coordinator.chores.dril_every", "drill_every"),
        (("memory_bytes", "memory"), "host.limits.memory", "memory_bytes"),
        (("8300\n\n", '"many"\n\n'), "coordinator.listen_port", "settings.md"),
        (('"fleets"', '"x"'), "store.bucket", "settings.md"),
        (("address =", "address "), "litefleet.toml", "Mend"),
    ],
)
def test_what_is_wrong_is_named(file: Path, change: tuple[str, str], words: str, hint: str) -> None:
    assert change[0] in WHOLE
    file.write_text(WHOLE.replace(*change, 1))
    with pytest.raises(Problem) as refused:
        load()
    assert words in refused.value.message
    assert hint in str(refused.value.hint)


def test_the_file_is_found_where_it_is_named(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text('token = "x"\n')
    assert find(None, {}) == Path("litefleet.toml")
    assert find(None, {"LITEFLEET_CONFIG": str(other)}) == other
    assert find(file, {"LITEFLEET_CONFIG": str(other)}) == file
    with pytest.raises(Problem, match="There is no file"):
        find(tmp_path / "none.toml", {})
    file.unlink()
    assert find(None, {}) is None
    with pytest.raises(Problem, match="has no store and no token"):
        load().for_coordinator()
