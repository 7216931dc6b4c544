"""A tenant's past on real parts: at a bookmark, at a time, across the loss of its host."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from backup import keys
from fleet.chains import ChainView, verify_chains
from fleet.past import plan_past
from node.engine.inspection import LogSummary, committed_at, inspect_log
from restore.errors import Damaged, RestoreFailed
from restore.history import read_history
from restore.moment import AtBookmark, AtTime, Moment, Now, Restored, restore
from restore.plan import list_epoch
from restore.scan import scan

from .conftest import Scenario, TestHost

OnHost = Callable[[Scenario], None]


def executions(database: Path) -> set[str]:
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return {str(row[0]) for row in connection.execute("SELECT id FROM executions")}
    finally:
        connection.close()


async def past(host: TestHost, moment: Moment, name: str) -> Restored[LogSummary]:
    return await restore(host.settings, "t", moment, host.data / name, inspect_log, committed_at)


def test_the_past_of_a_live_tenant_across_the_loss_of_its_host(on_host: OnHost) -> None:
    async def scenario(host: TestHost) -> None:
        node = await host.start(durability="before_effects")
        await node.serving()
        bookmarks: dict[str, tuple[int, int]] = {}
        times: dict[str, float] = {}
        for name in ("one", "two", "three", "four"):
            if name == "three":
                node.kill_all(await node.status())
                node = await host.start(durability="before_effects")
                await node.serving()
            answer = (await node.begin(name, steps=2)).json()
            assert answer["durable"]
            epoch, sequence = answer["bookmark"].split(":")
            bookmarks[name] = int(epoch), int(sequence)
            assert await node.result(name) == 2
            # The result's commit is in the bucket, and the next name begins later.
            await node.until(lambda status: status.lag.seconds == 0, "caught up")
            times[name] = time.time()
            await asyncio.sleep(1.3)

        assert [bookmarks[name][0] for name in ("one", "two", "three", "four")] == [1, 1, 2, 2]
        names = ["one", "two", "three", "four"]
        for number, name in enumerate(names):
            then = await past(host, AtTime(times[name] + 0.6), f"time-{name}")
            assert executions(then.fetched.database) == set(names[: number + 1])
            assert then.choice.epoch == bookmarks[name][0]
            assert then.choice.at <= times[name] + 0.6

            marked = await past(host, AtBookmark(*bookmarks[name]), f"mark-{name}")
            assert name in executions(marked.fetched.database)
            assert marked.checked.sequence >= bookmarks[name][1]
            assert executions(marked.fetched.database) <= set(names[: number + 1])

        newest = await past(host, Now(), "now")
        assert executions(newest.fetched.database) == set(names)
        # The live tenant knew nothing of it.
        assert (await node.status()).serving

        with pytest.raises(RestoreFailed, match="does not reach back"):
            await past(host, AtTime(times["one"] - 3600), "never")
        with pytest.raises(RestoreFailed, match="does not reach event 9999"):
            await past(host, AtBookmark(2, 9999), "unknown")

        history = read_history(host.store, "t")
        for span in history.spans:
            assert scan(host.store, "t", span).whole

        # A bit of the oldest epoch flips: the scan sees it, the newest state does not need it.
        entry = next(iter(host.store.list(keys.epoch("t", 1))))
        body = host.store.get(entry.key).body
        host.store.put(entry.key, body[:-40] + bytes([body[-40] ^ 1]) + body[-39:])
        found = scan(host.store, "t", history.span(1))
        assert [f"{keys.epoch('t', 1)}{item.file.name}" for item in found.bad] == [entry.key]
        assert scan(host.store, "t", history.span(2)).whole

        # A file in the middle is gone: told, and never silently an older state.
        files = list_epoch(host.store, "t", 2).files
        base = min(file for file in files if file.low == 1)
        last = max(files)
        assert last.low > base.high + 1
        for file in set(files) - {base, last}:
            host.store.delete(keys.epoch("t", 2) + file.name)
        with pytest.raises(Damaged, match=f"transaction {base.high + 1} is missing"):
            await past(host, Now(), "gapped")
        before = await restore(
            host.settings,
            "t",
            Now(),
            host.data / "before",
            inspect_log,
            committed_at,
            in_spite_of_damage=True,
        )
        assert before.choice.txid == base.high

        # Whoever has to decide what to do is told a bookmark, not only a position.
        reaches = f"2:{before.checked.sequence}"
        planned = await asyncio.to_thread(plan_past, host.settings, "t", Now())
        assert planned.reaches == reaches
        assert planned.missing is not None
        assert f"can be reached is {reaches}" in planned.missing

        def chains() -> list[ChainView]:
            return verify_chains(
                host.settings, ["t"], all_epochs=True, progress=lambda what, done, of: None
            )

        newest_chain, oldest_chain = await asyncio.to_thread(chains)
        assert (newest_chain.whole, newest_chain.bookmark) == (False, reaches)
        assert reaches in newest_chain.findings[-1]
        assert not oldest_chain.whole
        # And that bookmark is one that a restore takes.
        taken = await past(host, AtBookmark(2, before.checked.sequence), "reached")
        assert taken.checked.sequence == before.checked.sequence
        # Where nothing can be reached, that is said.
        host.store.delete(keys.epoch("t", 2) + base.name)
        newest_chain, _ = await asyncio.to_thread(chains)
        assert newest_chain.bookmark is None
        assert "nothing of it can be restored" in newest_chain.findings[-1]

    on_host(scenario)
