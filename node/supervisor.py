"""The supervisor of one node: takes the tenant over, runs engine and sidecar, proves, and ends.

It is the trusted part of a node. It holds the credentials and the claim; the engine only asks it
for proofs, over a socket of its own. The agent speaks to it over another socket, and can be
replaced meanwhile: the supervisor lives on until its deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backup import keys, ownership, records
from backup.barrier import GroupBarrier, Outcome, Round
from backup.errors import StoreError
from backup.lag import LagTracker
from backup.lease import boottime
from backup.litestream.control import ControlError, Positions
from backup.litestream.sidecar import Sidecar, SidecarFailed
from backup.ownership import OwnerRecord
from backup.store import ObjectStore, S3Store
from node.authority import AuthorityFile
from node.cradle import Cradle, CradleLost
from node.log import adopt_tail, check_restored, create_log
from node.order import ENDED, EngineOrder, NodeOrder, NodeState, NodeStatus
from node.processes import kill_group
from node.takeover import FAILURES, Claim, Superseded, Takeover, transition
from node.watchdog import Watchdog
from node.wire import Message, Server
from restore.errors import Damaged
from restore.plan import list_epoch

PROOF_EVERY = 1.0
"""Seconds between two proofs while something committed is not proven."""
ENGINE_STOP_TIMEOUT = 10.0
"""Seconds that an engine gets to end by itself at a planned stop."""
FINAL_SYNC_TIMEOUT = 30.0
"""Seconds for the last upload of a planned stop."""
RESTART_PAUSES = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds before each further restart of an engine or sidecar; the last one repeats."""
STEADY_AFTER = 30.0
"""Seconds of life after which a process's earlier restarts are forgotten."""
MAX_INCIDENTS = 20


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
        self._clock = clock
        self._database = folder / "data" / "log.db"
        self._authority = AuthorityFile(sockets / "authority")
        self._authority.extend(order.deadline)
        self._watchdog = Watchdog(self._authority, self._kill_now, boottime)
        self._tracker = LagTracker()
        self._changed = asyncio.Event()
        self._drain = asyncio.Event()
        self._fenced = asyncio.Event()
        self._nudge = asyncio.Event()
        self._streaming = asyncio.Event()
        self._claim: Claim | None = None
        self._sidecar: Sidecar | None = None
        self._barrier: GroupBarrier | None = None
        self._engine_pid: int | None = None
        self._serving: Server | None = None
        self.status = NodeStatus(
            tenant=order.tenant,
            host=order.host,
            incarnation=order.incarnation,
            app=order.app,
            durability=order.durability,
            api_socket=str(sockets / "engine.sock"),
            database=str(self._database),
        )

    # -- what the agent asks ------------------------------------------------------------------

    def extend(self, deadline: float) -> None:
        """Let the node live until ``deadline`` (boot-time clock); too late has no effect."""
        self._authority.extend(deadline)

    def fence(self) -> None:
        """End at once: SIGKILL to the engine, then to the sidecar."""
        self._authority.revoke()
        self._kill_now()
        self._fenced.set()

    def drain(self) -> None:
        """Begin a planned stop; the end is the state ``released``."""
        self._drain.set()

    def look(self) -> NodeStatus:
        """The status as of now, lag included."""
        return self.status.model_copy(
            update={
                "lag": self._tracker.lag(self._clock()),
                "pids": {
                    "supervisor": os.getpid(),
                    "cradle": self._cradle.pid,
                    **({"engine": self._engine_pid} if self._engine_pid else {}),
                    **({"sidecar": pid} if (pid := self._sidecar_pid()) else {}),
                },
            }
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
        await self._cancel([life, *fences])
        if self._fenced.is_set() or not self._authority.alive():
            self._set(NodeState.FENCED, self.status.detail or "the host lost its authority")
        elif not life.cancelled() and (error := life.exception()) is not None:
            # The node ends, and the agent must hear why.
            superseded = isinstance(error, Superseded)
            state = NodeState.SUPERSEDED if superseded else NodeState.FAILED
            self._set(state, str(error) if superseded else f"{type(error).__name__}: {error}")
        await self._stop_everything()
        self._watchdog.stop()

    async def _take_over_and_serve(self) -> None:
        takeover = Takeover(self._order, self._store, check_restored, adopt_tail, self._incident)
        self._set(NodeState.RESTORING)
        try:
            claim = await takeover.claim()
        except StoreError as error:
            self._set(NodeState.FAILED, str(error))
            return
        self._claim = claim
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
            await takeover.give_up(claim, error)
            state = NodeState.DAMAGED if isinstance(error, Damaged) else NodeState.FAILED
            self._set(state, f"{type(error).__name__}: {error}")
            return
        self._set(NodeState.ACTIVE, phases=takeover.phases)
        await self._serve()

    async def _bring_up(self, takeover: Takeover, claim: Claim) -> None:
        await takeover.bring(claim, self._database)
        began = time.monotonic()
        if claim.record.parent is None:
            await asyncio.to_thread(
                create_log, self._database, claim.record.tenant, claim.record.lineage
            )
        self._sidecar = Sidecar(
            self._order.store.reached_with(self._order.sidecar),
            keys.epoch(claim.record.tenant, claim.record.epoch),
            self._database,
            self._folder,
        )
        await self._sidecar.start()
        await takeover.await_base(claim, self._sidecar)
        self._streaming.set()
        self._claim = await takeover.activate(claim)
        self._barrier = GroupBarrier(
            self._sync,
            self._read_owner,
            claim.owner,
            claim.record.epoch,
            incident=self._incident,
        )
        self._serving = Server(self._sockets / "supervisor.sock", self._for_engine)
        await self._serving.start()
        await self._start_engine()
        takeover.phases = takeover.phases.model_copy(update={"start": time.monotonic() - began})

    async def _serve(self) -> None:
        keepers = [
            asyncio.create_task(self._keep_engine()),
            asyncio.create_task(self._keep_sidecar()),
            asyncio.create_task(self._keep_proving()),
        ]
        told = asyncio.create_task(self._drain.wait())
        try:
            await asyncio.wait([*keepers, told], return_when=asyncio.FIRST_COMPLETED)
            for keeper in keepers:
                if keeper.done():
                    keeper.result()
        finally:
            await self._cancel([*keepers, told])
        if self._drain.is_set():
            await self._planned_stop()

    async def _planned_stop(self) -> None:
        """Draining, engine stopped, all uploaded, sidecar stopped, position read, released."""
        assert self._claim is not None
        assert self._sidecar is not None
        epoch = self._claim.record.epoch
        owner = self._claim.owner
        self._set(NodeState.DRAINING)
        self._claim = await transition(
            self._store, self._claim, lambda now: ownership.drain(now, owner, epoch)
        )
        await self._stop_engine()
        final = await self._final_sync()
        if self._barrier is not None:
            await self._barrier.close()
        await self._sidecar.stop()
        reached = await asyncio.to_thread(list_epoch, self._store, self._order.tenant, epoch)
        if reached.reachable < final or reached.gapped:
            raise SidecarFailed(
                f"the bucket shows {reached.reachable} after a final sync of {final}; not released"
            )
        self._claim = await transition(
            self._store,
            self._claim,
            lambda now: ownership.release(now, owner, epoch, reached.reachable, None),
        )
        self._set(NodeState.RELEASED)

    async def _final_sync(self) -> int:
        """Upload what is left and prove it: its own exit code says nothing about the last sync."""
        assert self._barrier is not None
        until = time.monotonic() + FINAL_SYNC_TIMEOUT
        while True:
            covered = self._tracker.sequence
            result = await self._barrier.prove()
            if result.outcome is Outcome.DURABLE:
                self._tracker.proven(covered, result.txid, self._clock())
                return result.txid
            if result.outcome is Outcome.FENCED or time.monotonic() >= until:
                raise SidecarFailed(f"the final sync is {result.outcome}: {result.detail}")
            await asyncio.sleep(0.2)

    # -- the engine ---------------------------------------------------------------------------

    async def _start_engine(self) -> None:
        assert self._claim is not None
        record = self._claim.record
        socket = self._sockets / "engine.sock"
        socket.unlink(missing_ok=True)
        self._engine_pid = await self._cradle.start(
            EngineOrder(
                tenant=record.tenant,
                lineage=record.lineage,
                epoch=record.epoch,
                app=self._order.app,
                durability=self._order.durability,
                env=self._order.env,
                database=self._database,
                api_socket=socket,
                supervisor_socket=self._sockets / "supervisor.sock",
                authority=self._authority.path,
                log=self._folder / "engine.log",
            )
        )
        if not self._authority.alive():
            # The watchdog may have fired between the fork and this line, with no pid to kill.
            self._kill_now()
            return
        ended = asyncio.create_task(self._cradle.ended())
        self._engine_ended = ended
        while not socket.exists():
            done, _ = await asyncio.wait([ended], timeout=0.005)
            if done:
                return
        self._set(serving=True, serving_since=self._clock())

    async def _keep_engine(self) -> None:
        """Restart a dead engine in place, on its file and in its epoch: the host is not lost."""
        restarts = 0
        while True:
            began = time.monotonic()
            try:
                status = await asyncio.shield(self._engine_ended)
            except CradleLost as error:
                raise SidecarFailed(str(error)) from error
            self._engine_pid = None
            if time.monotonic() - began > STEADY_AFTER:
                restarts = 0
            pause = RESTART_PAUSES[min(restarts, len(RESTART_PAUSES) - 1)]
            restarts += 1
            self._incident(f"the engine ended with {status}; restarted after {pause} s")
            self._set(engine_restarts=self.status.engine_restarts + 1, serving=False)
            await asyncio.sleep(pause)
            if not self._authority.alive():
                return
            await self._start_engine()

    async def _stop_engine(self) -> None:
        """SIGTERM, a bounded wait for what it is doing, then SIGKILL; reaped in either case."""
        pid = self._engine_pid
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(asyncio.shield(self._engine_ended), ENGINE_STOP_TIMEOUT)
        except TimeoutError:
            kill_group(pid)
            await asyncio.shield(self._engine_ended)
        except CradleLost:
            pass
        kill_group(pid)  # what the tenant's code has started and left in the group
        self._engine_pid = None

    async def _for_engine(self, op: str, message: Message) -> Message:
        """What an engine may ask: a proof, and to be heard about its commits."""
        if op == "committed":
            self._tracker.committed(int(message["sequence"]), float(message["at"]))
            self.status = self.status.model_copy(update={"executions": message["executions"]})
            self._nudge.set()
            return {}
        if op == "barrier":
            sequence = int(message["sequence"])
            self._tracker.committed(sequence, self._clock())
            result = await self._prove(sequence)
            epoch = self.status.epoch
            return {
                "outcome": str(result.outcome),
                "bookmark": f"{epoch}:{sequence}",
                "detail": result.detail,
            }
        raise ValueError(f"an engine cannot ask for {op!r}")

    # -- proofs -------------------------------------------------------------------------------

    async def _prove(self, sequence: int) -> Round:
        assert self._barrier is not None
        if not self._authority.alive():
            return Round(Outcome.FENCED, detail="the host lost its authority")
        result = await self._barrier.prove()
        if not self._authority.alive():
            # The bucket alone decides who owns the tenant, but a zombie answers nothing.
            return Round(Outcome.FENCED, detail="the host lost its authority")
        if result.outcome is Outcome.DURABLE:
            self._tracker.proven(sequence, result.txid, self._clock())
        elif result.outcome is Outcome.FENCED:
            self._set(detail=result.detail)
            self.fence()
        return result

    async def _keep_proving(self) -> None:
        """Prove what was committed without anybody waiting for it: it is the measure of the lag."""
        while True:
            await self._nudge.wait()
            self._nudge.clear()
            while self._tracker.behind:
                result = await self._prove(self._tracker.sequence)
                if result.outcome is Outcome.FENCED:
                    return
                if result.outcome is not Outcome.DURABLE:
                    self._incident(f"not proven: {result.outcome}: {result.detail}")
                    await self._look_at_positions()
                await asyncio.sleep(PROOF_EVERY)

    async def _sync(self, timeout: float) -> Positions:
        assert self._sidecar is not None
        await self._streaming.wait()
        seen = await self._sidecar.sync(timeout)
        self._tracker.positions(seen.txid, seen.replicated)
        return seen

    async def _look_at_positions(self) -> None:
        assert self._sidecar is not None
        if not self._streaming.is_set():
            return
        with contextlib.suppress(ControlError):
            seen = await self._sidecar.control.sync(wait=False, timeout=2.0)
            self._tracker.positions(seen.txid, seen.replicated)

    async def _read_owner(self) -> OwnerRecord | None:
        found = await asyncio.to_thread(
            records.read, self._store, keys.owner(self._order.tenant), OwnerRecord
        )
        return found.record if found else None

    # -- the sidecar --------------------------------------------------------------------------

    async def _keep_sidecar(self) -> None:
        """Restart a dead sidecar in the same epoch: this process saw the whole of its life."""
        assert self._sidecar is not None
        restarts = 0
        while True:
            began = time.monotonic()
            status = await self._sidecar.wait()
            self._streaming.clear()
            if time.monotonic() - began > STEADY_AFTER:
                restarts = 0
            pause = RESTART_PAUSES[min(restarts, len(RESTART_PAUSES) - 1)]
            restarts += 1
            self._incident(f"litestream ended with {status}; restarted after {pause} s")
            self._set(sidecar_restarts=self.status.sidecar_restarts + 1)
            await asyncio.sleep(pause)
            if not self._authority.alive():
                return
            await self._sidecar.start()
            with contextlib.suppress(SidecarFailed):
                await self._sidecar.ready(30.0)
                self._streaming.set()

    def _sidecar_pid(self) -> int | None:
        return self._sidecar.pid if self._sidecar is not None else None

    async def _kill_sidecar(self) -> None:
        if self._sidecar is not None and self._sidecar.pid is not None:
            self._sidecar.kill()
            await self._sidecar.wait()

    # -- ends ---------------------------------------------------------------------------------

    def _kill_now(self) -> None:
        """SIGKILL to the engine's group, then to the sidecar. Called from any thread."""
        pid = self._engine_pid
        if pid is not None:
            kill_group(pid)
        if self._sidecar is not None:
            self._sidecar.kill()

    async def _authority_ended(self) -> None:
        while self._authority.alive():
            await asyncio.sleep(0.1)

    async def _stop_everything(self) -> None:
        pid = self._engine_pid
        if pid is not None:
            kill_group(pid)
            with contextlib.suppress(CradleLost):
                await asyncio.shield(self._engine_ended)
            self._engine_pid = None
        await self._kill_sidecar()
        if self._barrier is not None:
            await self._barrier.close()
        if self._serving is not None:
            await self._serving.close()

    @staticmethod
    async def _cancel(tasks: list[asyncio.Task[Any]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

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
