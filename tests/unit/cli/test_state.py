"""The record that `up` leaves for the other commands."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from fleet import state


def test_it_is_found_while_its_process_lives(tmp_path: Path) -> None:
    path = state.write("one", "http://127.0.0.1:1", "secret", tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = state.read("one", tmp_path)
    assert found is not None
    assert (found.address, found.token) == ("http://127.0.0.1:1", "secret")
    assert [one.name for one in state.running(tmp_path)] == ["one"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["one.json"]


def test_two_fleets_live_side_by_side_under_two_names(tmp_path: Path) -> None:
    state.write("one", "http://a", "x", tmp_path)
    state.write("two", "http://b", "y", tmp_path)
    assert {one.name for one in state.running(tmp_path)} == {"one", "two"}


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    state.write("one", "http://a", "x", tmp_path)
    with pytest.raises(state.NameTaken, match="one"):
        state.write("one", "http://b", "y", tmp_path)
    found = state.read("one", tmp_path)
    assert found is not None
    assert found.address == "http://a"


def test_what_a_crash_left_counts_as_absent_and_is_replaced(tmp_path: Path) -> None:
    path = state.write("one", "http://a", "x", tmp_path)
    record = json.loads(path.read_text())
    record["born"] -= 3600
    path.write_text(json.dumps(record))
    assert state.read("one", tmp_path) is None
    assert state.running(tmp_path) == []
    state.write("one", "http://b", "y", tmp_path)
    found = state.read("one", tmp_path)
    assert found is not None
    assert found.address == "http://b"


def test_it_is_removed_by_its_own_process_only(tmp_path: Path) -> None:
    path = state.write("one", "http://a", "x", tmp_path)
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"pid": 1}))
    state.remove("one", tmp_path)
    assert path.exists()
    path.write_text(json.dumps(record))
    state.remove("one", tmp_path)
    assert not path.exists()


@pytest.mark.parametrize("name", ["", "Upper", "a/b", "..", "-a", "a-", "a" * 33, "ä"])
def test_a_name_that_could_leave_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(state.BadName):
        state.path_of(name, tmp_path)


def test_half_a_record_counts_as_absent(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text('{"name": "one", "addr')
    assert state.read("one", tmp_path) is None


def test_the_home_is_the_environments_choice(tmp_path: Path) -> None:
    assert state.home({"LITEFLEET_HOME": str(tmp_path)}) == tmp_path
    assert state.home({}) == Path.home() / ".litefleet"
