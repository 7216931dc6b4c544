"""The supervisor of one node: takes the tenant over, runs engine and sidecar, proves, and ends.

It is the trusted part of a node. It holds the credentials and the claim; the engine only asks it
for proofs, over a socket of its own. The agent speaks to it over another socket, and can be
replaced meanwhile: the supervisor lives on until its deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backup import keys, ownership
from backup.backlog import Backlog
from backup.barrier import GroupBarrier
from backup.copies import BadCopy, Copy
from backup.errors import StoreError
from backup.glance import Glance
from backup.guards import Action, Alert
from backup.lag import Lag, LagTracker
from backup.lease import boottime
from backup.litestream.pace import Pacing
from backup.litestream.sidecar import Sidecar, SidecarFailed, SidecarUser
from backup.ownership import OwnerRecord
from backup.sealing import Key
from backup.store import ObjectStore, S3Store
from node import users
from node.authority import AuthorityFile
from node.checks import Checks
from node.copying import Copying, CopyOrder
from node.cradle import Cradle
from node.engine_process import EngineProcess
from node.guarding import Guarding
from node.log import adopt_tail, check_restored, create_log, live_chain_at, part_log
from node.order import ENDED, CheckOrder, EngineOrder, NodeOrder, NodeState, NodeStatus
from node.proofs import Proofs, Replication
from node.restarts import Restarts
from node.takeover import FAILURES, Claim, Superseded, Takeover, transition
from node.watchdog import Watchdog
from node.wire import Message, Server
from restore.plan import list_epoch

MAX_INCIDENTS = 20
CHECK_PATIENCE = 30.0
"""Seconds for which an engine that has not served waits for a check of other code."""
STOPPED_AGAIN = 0.05
"""Seconds until an engine that was being started when the node was told to stop is looked for."""
PACE_EVERY = 10.0
"""Seconds between two looks at how busy the tenant is."""


class Supervisor:
    """One node, from its order to its end."""

    def __init__(
        self,
        order: NodeOrder,
        folder: Path,
        sockets: Path,
        cradle: Cradle,
        store: ObjectStore | None = None,
        clock: Callable[[], float] = time.time,
    ):
        """
        Args:
            folder: a fresh folder for this epoch's files, 0700.
            sockets: a folder with a short path for the node's sockets.
            store: reaches the records; by default the order's.
            clock: unix seconds, for what people read; no decision hangs on it.
        """
        self._order = order
        self._folder = folder
        self._sockets = sockets
        self._cradle = cradle
        self._store = store or S3Store(order.store)
        self._owner = Glance(self._store, keys.owner(order.tenant), OwnerRecord)
        self._clock = clock
        self._database = folder / "data" / "log.db"
        self._backlog = Backlog(self._database)
        if order.users is not None:
            users.open_folders(order.users, folder, sockets)
        self._authority = AuthorityFile(sockets / "authority")
        self._authority.extend(order.deadline)
        self._watchdog = Watchdog(self._authority, self._kill_now, boottime)
        self._changed = asyncio.Event()
        self._drain = asyncio.Event()
        self._fenced = asyncio.Event()
        self._claim: Claim | None = None
        self._sidecar: Sidecar | None = None
        self._replication: Replication | None = None
        self._proofs: Proofs | None = None
        self._engine: EngineProcess | None = None
        self._serving: Server | None = None
        self._sidecar_told = False
        """It was ended on purpose, and not by itself."""
        self._copying = Copying()
        self._replacing: asyncio.Task[None] | None = None
        self._next_wake: float | None = 0.0
        """What the last engine said when it stopped; at once where it had no time to say."""
        """The end of an engine that is to be started again with other code."""
        self.checks = Checks(
            self._check_order, folder / "check.log", self._streaming, self._is_streaming
        )
        self.status = NodeStatus(
            tenant=order.tenant,
            host=order.host,
            incarnation=order.incarnation,
            app=order.app,
            kept=order.kept,
            release=order.release,
            durability=order.durability,
            api_socket=str(sockets / "engine.sock"),
            database=str(self._database),
        )

    # -- what the agent asks ------------------------------------------------------------------

    def extend(self, deadline: float) -> None:
        """Let the node live until ``deadline`` (boot-time clock); too late has no effect."""
        self._authority.extend(deadline)

    def fence(self, detail: str = "") -> None:
        """End at once: SIGKILL to the engine, then to the sidecar."""
        self._authority.revoke()
        self._kill_now()
        if detail:
            self._set(detail=detail)
        self._fenced.set()

    def drain(self) -> None:
        """Begin a planned stop; the end is the state ``released``."""
        self._drain.set()

    def upgrade(self, app: str, kept: tuple[str, ...], release: int) -> None:
        """Restart the engine in place with other code, in its epoch. A release that this node has
        already changes nothing."""
        if release <= self._order.release:
            return
        code: dict[str, Any] = {"app": app, "kept": kept, "release": release}
        self._order = self._order.model_copy(update=code)
        self._set(**code, serving=False)
        if self._engine is not None and self._claim is not None:
            self._engine.use(self._engine_order(self._claim.record))
            if self._engine.pid is not None:
                self._replacing = asyncio.create_task(self._engine.stop())

    def look(self) -> NodeStatus:
        """The status as of now, lag included."""
        pids = {"supervisor": os.getpid(), "cradle": self._cradle.pid}
        if self._engine is not None and self._engine.pid is not None:
            pids["engine"] = self._engine.pid
        if self._sidecar is not None and self._sidecar.pid is not None:
            pids["sidecar"] = self._sidecar.pid
        lag = self._proofs.lag() if self._proofs is not None else Lag()
        if self._proofs is not None:
            # Nothing is looked at while nothing can be behind: most tenants are idle.
            behind = self._backlog.bytes(lag.replicated_txid) if lag.seconds or lag.txids else 0
            lag = lag.model_copy(update={"bytes": behind})
        return self.status.model_copy(update={"lag": lag, "pids": pids})

    async def chain_at(self, sequence: int) -> str:
        """The live log's hash chain after an event, in hex; "" where no commit ends there.

        Raises:
            LogRefused: there is no log here that can be read now.
        """
        return await asyncio.to_thread(live_chain_at, self._database, sequence)

    async def copy(self, key: Key | None = None) -> Copy:
        """Bring an independent copy of the live log to the bucket, or name the newest one where
        nothing has been committed since. With ``key``, it is sealed with that.

        Raises:
            BadCopy: it could not be made; the message says why.
        """
        if self._claim is None or self.status.state is not NodeState.ACTIVE:
            raise BadCopy(f"{self._order.tenant} is {self.status.state} here; nothing was copied")
        return await self._copying.copy(
            CopyOrder(
                store=self._order.store,
                database=self._database,
                record=self._claim.record,
                key=key,
            )
        )

    async def export(self, into: Path) -> Copy:
        """Write the live log to a new file, whole, as of one moment, and checked.

        Raises:
            BadCopy: it could not be done; the message says why.
        """
        if self._claim is None or self.status.state is not NodeState.ACTIVE:
            raise BadCopy(f"{self._order.tenant} is {self.status.state} here; nothing was exported")
        record = self._claim.record
        return await self._copying.copy(
            CopyOrder(store=self._order.store, database=self._database, record=record, into=into)
        )

    async def look_after(self, version: int, wait: float) -> NodeStatus:
        """The status once its version is above ``version``, or after ``wait`` seconds."""
        until = asyncio.get_running_loop().time() + wait
        while self.status.version <= version:
            left = until - asyncio.get_running_loop().time()
            if left <= 0:
                break
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)
        return self.look()

    # -- the node's life ----------------------------------------------------------------------

    async def run(self) -> None:
        """Take over, serve until told otherwise, and end. Never raises; the status tells."""
        self._watchdog.start()
        life = asyncio.create_task(self._take_over_and_serve())
        fences = [
            asyncio.create_task(self._fenced.wait()),
            asyncio.create_task(self._authority_ended()),
        ]
        await asyncio.wait([life, *fences], return_when=asyncio.FIRST_COMPLETED)
        await _cancel([life, *fences])
        await self._stop_everything()
        if self._fenced.is_set() or not self._authority.alive():
            self._set(NodeState.FENCED, self.status.detail or "the host lost its authority")
        elif not life.cancelled() and (error := life.exception()) is not None:
            # The node has ended, and the agent must hear why.
            superseded = isinstance(error, Superseded)
            state = NodeState.SUPERSEDED if superseded else NodeState.FAILED
            self._set(state, str(error) if superseded else f"{type(error).__name__}: {error}")
        self._watchdog.stop()

    async def _take_over_and_serve(self) -> None:
        takeover = Takeover(
            self._order,
            self._store,
            check_restored,
            adopt_tail,
            part_log,
            self._incident,
            wall_clock=self._clock,
        )
        self._set(NodeState.RESTORING)
        claim = self._claim = await takeover.claim()
        record = claim.record
        # For whoever finds these files after a reboot.
        (self._folder / "epoch").write_text(f"{record.epoch}\n")
        self._set(
            epoch=record.epoch,
            lineage=record.lineage,
            parent_epoch=record.parent.epoch if record.parent else None,
        )
        try:
            await self._bring_up(takeover, claim)
        except FAILURES as error:
            await self._kill_sidecar()
            if await takeover.give_up(claim, error):
                self._set(NodeState.DAMAGED, f"{type(error).__name__}: {error}")
                return
            raise
        self._set(NodeState.ACTIVE, phases=takeover.phases)
        await self._serve()

    async def _bring_up(self, takeover: Takeover, claim: Claim) -> None:
        await takeover.bring(claim, self._database)
        began = time.monotonic()
        if claim.record.genesis:
            await asyncio.to_thread(
                create_log, self._database, claim.record.tenant, claim.record.lineage
            )
        order = self._order
        self._sidecar = Sidecar(
            self._order.store.reached_with(self._order.sidecar),
            keys.epoch(claim.record.tenant, claim.record.epoch),
            self._database,
            self._folder,
            self._sidecar_user(),
        )
        if order.users is not None:
            await asyncio.to_thread(users.hand_over, order.users, self._database.parent)
        await self._sidecar.start()
        size = self._database.stat().st_size
        await takeover.await_base(claim, self._sidecar, size)
        self._claim = await takeover.activate(claim)
        self._proofs = self._make_proofs(claim, self._sidecar)
        self._serving = Server(self._sockets / "supervisor.sock", self._for_engine)
        await self._serving.start()
        if order.users is not None:
            users.let_group_in(order.users, self._sockets / "supervisor.sock")
        self._engine = EngineProcess(self._cradle, self._engine_order(claim.record))
        await self._start_engine(self._engine)
        takeover.phases = takeover.phases.model_copy(update={"start": time.monotonic() - began})

    def _sidecar_user(self) -> SidecarUser | None:
        own = self._order.users
        if own is None:
            return None
        return SidecarUser(own.sidecar, own.group, users.sidecar_home(self._folder))

    def _make_proofs(self, claim: Claim, sidecar: Sidecar) -> Proofs:
        tracker = LagTracker()
        self._replication = Replication(sidecar, tracker)
        self._replication.started()  # a base in the bucket shows that it streams
        barrier = GroupBarrier(
            self._replication.sync,
            self._owner.read,
            claim.owner,
            claim.record.epoch,
            incident=self._incident,
        )
        return Proofs(
            barrier,
            self._replication,
            tracker,
            self._authority.alive,
            self.fence,
            self._incident,
            self._clock,
            self._store_answers,
        )

    async def _store_answers(self) -> bool:
        try:
            await self._owner.read()
        except StoreError:
            return False
        return True

    async def _serve(self) -> None:
        assert self._proofs is not None
        # A planned stop may find either of these two just being restarted, and needs them.
        engine = asyncio.create_task(self._keep_engine())
        sidecar = asyncio.create_task(self._keep_sidecar())
        others = [
            asyncio.create_task(self._proofs.keep_proving()),
            asyncio.create_task(self._guarding(self._proofs).run()),
            asyncio.create_task(self._keep_pace()),
        ]
        told = asyncio.create_task(self._drain.wait())
        keepers = [engine, sidecar, *others]
        try:
            await asyncio.wait([*keepers, told], return_when=asyncio.FIRST_COMPLETED)
            for keeper in keepers:
                # That of the engine may have seen first what it was told.
                if keeper.done() and not (keeper is engine and self._drain.is_set()):
                    keeper.result()
            if self._drain.is_set():
                await _cancel(others)
                await self._planned_stop(engine, sidecar)
        finally:
            await _cancel([*keepers, told])

    def _guarding(self, proofs: Proofs) -> Guarding:
        def tell(alerts: list[Alert]) -> None:
            if alerts != self.status.alerts:
                self._set(alerts=alerts)

        async def act(alert: Alert) -> None:
            self._incident(f"{alert.guard}: {alert.text}; {alert.action.replace('_', ' ')}")
            if alert.action is Action.RESTART_SIDECAR:
                self._restart_sidecar()

        return Guarding(
            self._order.guards,
            self._database,
            lag=proofs.lag,
            sidecar=lambda: self._sidecar.pid if self._sidecar is not None else None,
            stuck=lambda: proofs.hopeless,
            act=act,
            tell=tell,
            clock=self._clock,
        )

    async def _planned_stop(
        self, engine_keeper: asyncio.Task[None], sidecar_keeper: asyncio.Task[None]
    ) -> None:
        """Draining, engine stopped, all uploaded, sidecar stopped, position read, released."""
        assert self._claim is not None
        assert self._sidecar is not None
        assert self._proofs is not None
        assert self._engine is not None
        epoch = self._claim.record.epoch
        owner = self._claim.owner
        self._set(NodeState.DRAINING)
        self._claim = await transition(
            self._store, self._claim, lambda now: ownership.drain(now, owner, epoch)
        )
        await self.checks.close()
        while not engine_keeper.done():
            # It may be starting one just now, which has no process yet that could be stopped.
            await self._engine.stop()
            await asyncio.wait([engine_keeper], timeout=STOPPED_AGAIN)
        engine_keeper.result()
        self._set(serving=False)
        final = await self._proofs.final()
        await self._proofs.close()
        await _cancel([sidecar_keeper])
        await self._sidecar.stop()
        reached = await asyncio.to_thread(list_epoch, self._store, self._order.tenant, epoch)
        if reached.reachable < final or reached.gapped:
            raise SidecarFailed(
                f"the bucket shows {reached.reachable} after a final sync of {final}; not released"
            )
        self._claim = await transition(
            self._store,
            self._claim,
            lambda now: ownership.release(now, owner, epoch, reached.reachable, self._next_wake),
        )
        self._set(NodeState.RELEASED)

    # -- the engine ---------------------------------------------------------------------------

    def _engine_order(self, record: OwnerRecord) -> EngineOrder:
        return EngineOrder(
            tenant=record.tenant,
            lineage=record.lineage,
            epoch=record.epoch,
            app=self._order.app,
            kept=self._order.kept,
            durability=self._order.durability,
            env=self._order.env,
            database=self._database,
            api_socket=self._sockets / "engine.sock",
            supervisor_socket=self._sockets / "supervisor.sock",
            authority=self._authority.path,
            log=(users.engine_home(self._folder) if self._order.users else self._folder)
            / "engine.log",
            users=self._order.users,
            rlimits=self._order.rlimits,
            keep_closed=self._order.keep_closed,
            keep_history=self._order.keep_history,
            inline_limit=self._order.inline_limit,
            blob_limit=self._order.blob_limit,
        )

    async def _start_engine(self, engine: EngineProcess) -> None:
        self._next_wake = 0.0
        self._set(rest=None, next_wake=None)
        serves = await engine.start()
        if not self._authority.alive():
            # The watchdog may have fired between the fork and this line, with no pid to kill.
            self._kill_now()
        elif serves:
            self._set(serving=True, serving_since=self._clock())

    async def _keep_engine(self) -> None:
        """Restart a dead engine in place, on its file and in its epoch: the host is not lost. Ends
        with an engine's end once the node is told to stop.

        The sidecar is restarted before it. An engine that is killed between writing a commit's last
        frame and publishing it in the shared WAL index leaves a commit that Litestream, which reads
        the file, has seen and may have uploaded, and that SQLite, as long as anybody has the index
        open, does not know of: the next engine would write over it. Litestream 0.5.17 then takes a
        snapshot from the wrong place, and fails for ever ("read database page N: EOF") or uploads
        stale pages. With every connection closed, whoever opens the file first recovers the WAL as
        a whole, that commit included.
        """
        assert self._engine is not None
        assert self._replication is not None
        restarts = Restarts()
        while True:
            began = time.monotonic()
            status = await self._engine.ended()
            served = self.status.serving or self._replacing is not None
            if self._drain.is_set() and status == 0:
                return
            self._restart_sidecar()
            if any(await asyncio.gather(self.checks.cut_off(), self._copying.cut_off())):
                # They had the file open, and so the sidecar may not have been the first.
                self._restart_sidecar()
            if self._replacing is not None:
                self._replacing = None
                restarts = Restarts()
                self._set(serving=False)
            else:
                pause = restarts.pause_after(time.monotonic() - began)
                words = self._engine.last_words()
                self._incident(
                    f"the engine ended with {status}: {words}; restarted after {pause} s"
                )
                self._set(
                    engine_restarts=self.status.engine_restarts + 1,
                    sidecar_restarts=self.status.sidecar_restarts + 1,
                    serving=False,
                )
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._drain.wait(), pause)
            await self._replication.streaming()
            if not served and not self._drain.is_set():
                # It ends again and again, and would take a check of what might mend it along.
                await self.checks.look(CHECK_PATIENCE)
            if self._drain.is_set() or not self._authority.alive():
                return
            await self._start_engine(self._engine)

    def _check_order(self) -> CheckOrder:
        order = self._order
        return CheckOrder(
            app=order.app,
            kept=order.kept,
            durability=order.durability,
            env=order.env,
            database=self._database,
            users=order.users,
            rlimits=order.rlimits,
        )

    async def _streaming(self) -> None:
        """Wait until the log is there and its sidecar has it open."""
        while self._engine is None or self._replication is None:
            await asyncio.sleep(0.05)
        await self._replication.streaming()

    def _is_streaming(self) -> bool:
        return self._replication is not None and self._replication.is_streaming

    async def _for_engine(self, op: str, message: Message) -> Message:
        """What an engine may ask: a proof, and to be heard about its commits and its rest."""
        assert self._proofs is not None
        if op == "resting":
            wake = message["next_wake"]
            self._next_wake = None if wake is None else float(wake)
            return {}
        if op == "idle":
            self._set(rest=message["rest"], next_wake=message["next_wake"])
            return {}
        sequence = int(message["sequence"])
        if op == "committed":
            self.status = self.status.model_copy(update={"executions": message["executions"]})
            self._proofs.committed(sequence, float(message["at"]))
            return {}
        if op == "barrier":
            result = await self._proofs.prove(sequence)
            return {
                "outcome": str(result.outcome),
                "bookmark": f"{self.status.epoch}:{sequence}",
                "detail": result.detail,
            }
        raise ValueError(f"an engine cannot ask for {op!r}")

    # -- the sidecar --------------------------------------------------------------------------

    async def _keep_sidecar(self) -> None:
        """Restart a dead sidecar in the same epoch: this process saw the whole of its life."""
        assert self._sidecar is not None
        assert self._replication is not None
        restarts = Restarts()
        while True:
            began = time.monotonic()
            status = await self._sidecar.wait()
            self._replication.ended()
            told, self._sidecar_told = self._sidecar_told, False
            if not told:
                pause = restarts.pause_after(time.monotonic() - began)
                self._incident(f"litestream ended with {status}; restarted after {pause} s")
                self._set(sidecar_restarts=self.status.sidecar_restarts + 1)
                await asyncio.sleep(pause)
            if not self._authority.alive():
                return
            await self._sidecar.start()
            try:
                await self._sidecar.ready(30.0)
            except SidecarFailed as error:
                self._incident(str(error))
                await self._kill_sidecar()
            else:
                self._replication.started()

    def _restart_sidecar(self) -> None:
        assert self._sidecar is not None
        assert self._replication is not None
        self._sidecar_told = self._sidecar.pid is not None
        self._replication.restart()

    async def _keep_pace(self) -> None:
        """Have the sidecar look after the replica as often as the tenant's writing asks for."""
        assert self._sidecar is not None
        assert self._replication is not None
        pacing = Pacing(time.monotonic())
        while True:
            await asyncio.sleep(PACE_EVERY)
            wanted = pacing.seen(self.look().lag.sequence, time.monotonic())
            if wanted is not self._sidecar.pace and self._sidecar.pid is not None:
                self._sidecar.pace = wanted
                self._restart_sidecar()

    async def _kill_sidecar(self) -> None:
        if self._sidecar is not None and self._sidecar.pid is not None:
            self._sidecar.kill()
            await self._sidecar.wait()

    # -- ends ---------------------------------------------------------------------------------

    def _kill_now(self) -> None:
        """SIGKILL to the engine's group, then to the sidecar. Called from any thread."""
        if self._engine is not None:
            self._engine.kill()
        if self._sidecar is not None:
            self._sidecar.kill()

    async def _authority_ended(self) -> None:
        while self._authority.alive():
            await asyncio.sleep(0.1)

    async def _stop_everything(self) -> None:
        if self._engine is not None:
            await self._engine.destroy()
        await self.checks.close()
        await self._kill_sidecar()
        if self._proofs is not None:
            await self._proofs.close()
        if self._serving is not None:
            await self._serving.close()
        await self._owner.close()

    def _incident(self, text: str) -> None:
        kept = [*self.status.incidents, f"{self._clock():.3f} {text}"]
        self._set(incidents=kept[-MAX_INCIDENTS:])

    def _set(self, state: NodeState | None = None, detail: str | None = None, **more: Any) -> None:
        if state is not None and self.status.state not in ENDED:
            more["state"] = state
        if detail is not None:
            more["detail"] = detail
        more["version"] = self.status.version + 1
        self.status = self.status.model_copy(update=more)
        self._changed.set()
        self._changed = asyncio.Event()


async def _cancel(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
