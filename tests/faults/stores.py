"""What the object store does: to the node that serves, and to the one that takes over."""

from __future__ import annotations

import asyncio
import random

from tests.faults.lab import Lab, Verdict
from tests.faulty_store import Fault, Hung, Policy, Request, healthy


def sometimes(chance: float, fault: Fault, moments: random.Random, *kinds: str) -> Policy:
    """The fault for a part of all requests, or of those of some kinds."""

    def policy(request: Request) -> Fault | None:
        hit = moments.random() < chance and (not kinds or request.operation in kinds)
        return fault if hit else None

    return policy


async def for_a_while(
    lab: Lab, moments: random.Random, fault: Fault, chance: float, seconds: float, *kinds: str
) -> Verdict:
    """The store has this fault for a while, and is well again."""
    lab.proxy.policy = sometimes(chance, fault, moments, *kinds)
    await asyncio.sleep(seconds)
    lab.proxy.policy = healthy
    await lab.acknowledged(5, 180.0)
    return await lab.judge()


async def lost_during(
    lab: Lab, moments: random.Random, fault: Fault, chance: float, seconds: float, *kinds: str
) -> Verdict:
    """The machine is lost while the store has the fault."""
    lab.proxy.policy = sometimes(chance, fault, moments, *kinds)
    await asyncio.sleep(seconds)
    return await lab.judge()


async def one_upload_hangs(lab: Lab, _moments: random.Random) -> Verdict:
    """One request for good; the store is well otherwise. Only the node's own cure helps."""
    hung: list[Request] = []

    def policy(request: Request) -> Fault | None:
        if hung or request.operation != "put" or "/0000/" not in request.key:
            return None
        hung.append(request)
        return Hung()

    lab.proxy.policy = policy
    while not hung:
        await asyncio.sleep(0.05)
    await lab.acknowledged(5, 180.0)
    return await lab.judge()
