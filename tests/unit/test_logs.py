"""Lines of a log: their forms, the files they are in, and how they are read back."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from node.log_reading import Cursor, newest_lines
from node.logs import BadLogSetting, JsonFormatter, LogFile, TextFormatter, log_to_file


def record(message: str, *arguments: object, **extra: Any) -> logging.LogRecord:
    made = logging.getLogger("shop").makeRecord(
        "shop", logging.INFO, __file__, 1, message, arguments, None, extra=extra
    )
    made.created = 1_800_000_000.25
    return made


def test_a_line_of_json_has_the_fields_that_apply() -> None:
    line = json.loads(
        JsonFormatter().format(
            record("%s sold", 3, execution="ada", tenant="acme", epoch=2, price={1, 2})
        )
    )
    assert line == {
        "time": "2027-01-15T08:00:00.250+00:00",
        "level": "info",
        "logger": "shop",
        "message": "3 sold",
        "tenant": "acme",
        "epoch": 2,
        "execution": "ada",
        "price": "{1, 2}",
    }


def test_a_line_for_people_says_first_what_was_said() -> None:
    text = TextFormatter().format(record("sold", execution="ada", tenant="acme", epoch=2, step="s"))
    assert text.endswith("INFO     shop: sold  [tenant=acme epoch=2 execution=ada step=s]")


def test_a_traceback_is_part_of_the_line() -> None:
    try:
        raise KeyError("lost")
    except KeyError:
        one = record("caught")
        one.exc_info = sys.exc_info()
    assert "KeyError: 'lost'" in json.loads(JsonFormatter().format(one))["exception"]
    assert "\n" in TextFormatter().format(one)


def test_a_full_file_is_put_aside_and_only_so_many_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "engine.log"
    code = f"""
import logging, os
from pathlib import Path
from node.logs import log_to_file
from node.processes import log_to
log_to({str(path)!r})
log_to_file(Path({str(path)!r}), {{"LITEFLEET_LOG_BYTES": "4096"}})
for number in range(200):
    print("printed", number)
    logging.getLogger("shop").info("line %s of many", number)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == [
        "engine.log",
        "engine.log.1",
        "engine.log.2",
        "engine.log.3",
    ]
    assert all(file.stat().st_size < 4096 + 500 for file in files)
    found, cursor = newest_lines(path, 20, lambda line: "level" in line)
    assert [line["message"] for line in found] == [f"line {n} of many" for n in range(180, 200)]
    assert newest_lines(path, 20, lambda line: True, cursor)[0] == []


def test_reading_goes_on_after_a_file_was_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text('{"message": "a"}\nplain\n{"message": "b"')
    found, cursor = newest_lines(path, 9, lambda line: True)
    assert [line["message"] for line in found] == ["a", "plain"]
    with path.open("a") as file:
        file.write("}\n")
    path.rename(tmp_path / "log.1")
    path.write_text('{"message": "c"}\n')
    found, cursor = newest_lines(path, 9, lambda line: True, cursor)
    assert [line["message"] for line in found] == ["b", "c"]
    assert Cursor.read(str(cursor)) == cursor
    with path.open("a") as file:
        file.write('{"message": "d"}\n')
    assert newest_lines(path, 9, lambda line: True, cursor)[0] == [{"message": "d"}]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LITEFLEET_LOG_LEVEL", "loud"),
        ("LITEFLEET_LOG_FORMAT", "xml"),
        ("LITEFLEET_LOG_BYTES", "much"),
        ("LITEFLEET_LOG_BYTES", "10"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(BadLogSetting, match=f"{name} is '{value}'"):
        log_to_file(tmp_path / "log", {name: value})


def test_a_line_that_cannot_be_written_disturbs_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> int:
        raise OSError("no space")

    monkeypatch.setattr(os, "write", fails)
    LogFile(tmp_path / "log").handle(record("x"))
    assert "no space" in capsys.readouterr().err
