"""A restore to a file that is cut off, damaged, or run twice, on real parts."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from backup import keys
from backup.settings import REVEAL
from fleet.cli.restore import _follows
from fleet.past import FinishedRestore, bring_past
from fleet.problem import Problem
from node.engine.inspection import inspect_log
from restore import staging
from restore.errors import Damaged
from restore.moment import AtBookmark, Moment, Now
from restore.plan import list_epoch

from .conftest import APPS, ROOT, Scenario, TestHost, TestNode

OnHost = Callable[[Scenario], None]


async def made(host: TestHost) -> TestNode:
    """A tenant with a chain of several files, released."""
    node = await host.start(durability="before_effects")
    await node.serving()
    for number in range(6):
        await node.begin(f"job-{number}", steps=20)
        assert await node.result(f"job-{number}") == 20
        await asyncio.sleep(0.2)
    await node.remote.drain()
    assert (await node.ended()).state == "released"
    return node


def bring(host: TestHost, to: Path, moment: Moment, **more: bool) -> FinishedRestore:
    options = {"in_spite_of_damage": False, **more}
    return bring_past(host.settings, "t", moment, to, say=print, **options)  # type: ignore[arg-type]


CHILD = """
import sys
from pathlib import Path
from backup.settings import StoreSettings
from fleet.past import bring_past
from restore.moment import Now
from restore import staging
staging.PART = 2000
settings = StoreSettings.model_validate_json(sys.stdin.read())
bring_past(settings, "t", Now(), Path(sys.argv[1]), in_spite_of_damage=False, say=lambda _: None)
"""


OTHER = """
from node import workflow


@workflow
async def count(steps: int, pause: float = 0.0) -> int:
    await workflow.sleep(7)
    return 0
"""


def started(to: Path, settings: bytes) -> subprocess.Popen[bytes]:
    """A restore in a process of its own."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(to)],
        stdin=subprocess.PIPE,
        cwd=ROOT,
        start_new_session=True,
    )
    assert child.stdin is not None
    child.stdin.write(settings)
    child.stdin.close()
    return child


def test_killed_at_any_time_it_is_gone_on_with(on_host: OnHost, tmp_path: Path) -> None:
    async def scenario(host: TestHost) -> None:
        await made(host)
        wanted = await asyncio.to_thread(bring, host, tmp_path / "whole.db", Now())
        chain = inspect_log(tmp_path / "whole.db").chain
        to, kept, kills = tmp_path / "t.db", 0, 0
        partial = tmp_path / ".t.db.partial"
        body = host.settings.model_dump_json(context=REVEAL).encode()
        for delay in (0.4, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.7, 2.0):
            child = started(to, body)
            await asyncio.sleep(delay)
            if child.poll() is None:
                kills += 1
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            if to.exists():
                break
            now = len(list(partial.glob("*/files/*/*.ltx")))
            assert now >= kept  # nothing that has come is lost
            kept = now
        if not to.exists():
            await asyncio.to_thread(bring, host, to, Now())
        assert kills
        # Whatever is at its place is whole.
        log = inspect_log(to)
        assert (log.chain, f"{wanted.epoch}:{log.sequence}") == (chain, wanted.bookmark)

    on_host(scenario)


@pytest.mark.parametrize("moment", [Now(), AtBookmark(1, 20)], ids=["now", "mark"])
def test_cut_off_at_each_of_its_steps(
    on_host: OnHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: Moment
) -> None:
    class CutOff(BaseException):
        """As a signal would."""

    async def scenario(host: TestHost) -> None:
        await made(host)

        def steps(to: Path, cut: int) -> bool:
            """Run a restore that is cut off at its step number `cut`; whether it came to that."""
            left = cut

            def step(*_: object) -> None:
                nonlocal left
                left -= 1
                if left < 0:
                    raise CutOff

            try:
                bring_past(
                    host.settings,
                    "t",
                    moment,
                    to,
                    in_spite_of_damage=False,
                    say=step,
                    progress=step,
                    probe=step,
                )
            except CutOff:
                return True
            return False

        monkeypatch.setattr(staging, "PART", 4000)
        monkeypatch.setattr(staging, "READERS", 1)
        cut = 0
        while True:
            to = tmp_path / f"{cut}.db"
            was_cut = await asyncio.to_thread(steps, to, cut)
            assert to.exists() is not was_cut
            if was_cut:
                await asyncio.to_thread(bring, host, to, moment)
            assert inspect_log(to).sequence >= 20
            assert not to.with_name(f".{to.name}.partial").exists()
            if not was_cut:
                break
            cut += 1 if cut < 6 else 7
        assert cut > 6

    on_host(scenario)


def test_damage_is_gone_around_or_named(on_host: OnHost, tmp_path: Path) -> None:
    async def scenario(host: TestHost) -> None:
        await made(host)
        found = list_epoch(host.store, "t", 1)
        chain = found.chain
        broken = chain[-1]
        key = keys.epoch("t", 1) + broken.name
        body = host.store.get(key).body
        before = max(file.high for file in chain[:-1])
        # The bucket has the same transactions once more, as before a compaction.
        spare = f"{keys.epoch('t', 1)}{broken.level + 1:04d}/{key.rpartition('/')[2]}"
        host.store.put(spare, body)
        host.store.put(key, body[:120] + bytes([body[120] ^ 1]) + body[121:])
        around = await asyncio.to_thread(bring, host, tmp_path / "around.db", Now())
        assert around.txid == broken.high

        host.store.delete(spare)
        with pytest.raises(Damaged) as raised:
            await asyncio.to_thread(bring, host, tmp_path / "bad.db", Now())
        said = str(raised.value)
        assert broken.name in said
        assert f"can be reached is transaction {before}" in said
        assert not (tmp_path / "bad.db").exists()
        done = await asyncio.to_thread(
            lambda: bring(host, tmp_path / "bad.db", Now(), in_spite_of_damage=True)
        )
        assert (done.txid, done.epoch) == (before, 1)
        inspect_log(tmp_path / "bad.db")

    on_host(scenario)


def test_two_at_once_and_a_file_in_the_way(on_host: OnHost, tmp_path: Path) -> None:
    async def scenario(host: TestHost) -> None:
        await made(host)
        to = tmp_path / "t.db"

        def second(_: Path) -> None:
            with pytest.raises(Problem, match="restoring into"):
                bring(host, to, Now())
            to.write_text("somebody else's")

        def first() -> None:
            bring_past(
                host.settings, "t", Now(), to, in_spite_of_damage=False, say=print, probe=second
            )

        with pytest.raises(Problem, match="has come there meanwhile"):
            await asyncio.to_thread(first)
        assert to.read_text() == "somebody else's"
        to.unlink()
        await asyncio.to_thread(bring, host, to, Now())
        inspect_log(to)

    on_host(scenario)


def test_code_that_does_not_follow_keeps_the_file_back(on_host: OnHost, tmp_path: Path) -> None:
    async def scenario(host: TestHost) -> None:
        node = await host.start(durability="before_effects")
        await node.serving()
        await node.begin("open", steps=3, pause=60.0)
        await node.until(lambda status: status.lag.seconds == 0, "caught up")
        await asyncio.sleep(1.0)
        other = tmp_path / "other.py"
        other.write_text(OTHER)
        to = tmp_path / "t.db"

        def restored(app: Path) -> None:
            bring_past(
                host.settings,
                "t",
                Now(),
                to,
                in_spite_of_damage=False,
                say=print,
                probe=_follows(str(app)),
            )

        with pytest.raises(Problem, match="open executions do not follow"):
            await asyncio.to_thread(restored, other)
        assert not to.exists()
        await asyncio.to_thread(restored, APPS / "counting.py")
        assert inspect_log(to).executions["running"] == 1

    on_host(scenario)
