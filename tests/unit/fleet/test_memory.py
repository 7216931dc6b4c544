"""What an agent leaves for the one that comes after it."""

from __future__ import annotations

from pathlib import Path

import pytest

import fleet.agent.memory
from fleet.agent.memory import AnotherAgent, Memory


def test_the_next_agent_recalls_what_was_noted_last(tmp_path: Path) -> None:
    first = Memory(tmp_path, "h")
    first.note("one", 10.0)
    first.note("one", 15.0)
    found = Memory(tmp_path, "h").recall()
    assert found is not None
    assert (found.incarnation, found.deadline) == ("one", 15.0)
    first.forget()
    assert Memory(tmp_path, "h").recall() is None


def test_another_hosts_or_another_boots_is_not_recalled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Memory(tmp_path, "h").note("one", 10.0)
    assert Memory(tmp_path, "other").recall() is None
    monkeypatch.setattr(fleet.agent.memory, "boot", lambda: "after a reboot")
    assert Memory(tmp_path, "h").recall() is None


def test_what_is_no_record_is_not_recalled(tmp_path: Path) -> None:
    (tmp_path / "agent.json").write_text("{")
    assert Memory(tmp_path, "h").recall() is None


def test_a_folder_has_one_agent_at_a_time(tmp_path: Path) -> None:
    first, second = Memory(tmp_path, "h"), Memory(tmp_path, "h")
    first.hold()
    with pytest.raises(AnotherAgent, match="another agent runs on"):
        second.hold()
    first.close()
    second.hold()
    second.close()
