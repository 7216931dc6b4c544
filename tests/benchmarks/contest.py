"""Rounds in turn: the floor, our engine and the competitors, each next to the others in time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.benchmarks.participant import Participant, ParticipantLost
from tests.benchmarks.spread import Spread


@dataclass(slots=True)
class Entrant:
    """A participant in one setting. It takes part in every `every`-th round, until it has taken
    `patience` seconds in all."""

    name: str
    participant: Participant
    workflows: int
    options: dict[str, Any]
    every: int = 1
    patience: float = math.inf
    spent: float = 0.0
    rates: dict[int, float] = field(default_factory=dict)
    """Steps a second, by round."""
    lost: str | None = None
    """Why there are no further rounds of it."""

    def take_part(self, number: int, shape: str) -> None:
        if self.lost is not None or number % self.every or self.spent > self.patience:
            return
        request = {"shape": shape, "workflows": self.workflows, **self.options}
        try:
            answer = self.participant.ask(request)
        except ParticipantLost as error:
            self.lost = str(error)
        else:
            self.spent += answer["seconds"]
            self.rates[number] = answer["steps"] / answer["seconds"]


@dataclass(frozen=True, slots=True)
class Result:
    """Rates of every entrant that has any, and why the others have none."""

    shape: str
    rates: Mapping[str, Mapping[int, float]]
    lost: Mapping[str, str]

    def rate(self, name: str) -> Spread | None:
        """Steps a second."""
        rates = self.rates.get(name)
        return Spread.of(list(rates.values())) if rates else None

    def ratio(self, name: str, to: str) -> Spread | None:
        """How many times as fast as `to`, round by round."""
        ours, theirs = self.rates.get(name, {}), self.rates.get(to, {})
        pairs = [ours[number] / theirs[number] for number in ours if number in theirs]
        return Spread.of(pairs) if pairs else None


def hold(shape: str, entrants: list[Entrant], rounds: int) -> Result:
    """Run the rounds. In each, everyone has one turn, in alternating order."""
    for number in range(rounds):
        for entrant in entrants if number % 2 == 0 else reversed(entrants):
            entrant.take_part(number, shape)
    return Result(
        shape,
        {entrant.name: entrant.rates for entrant in entrants if entrant.rates},
        {entrant.name: entrant.lost for entrant in entrants if entrant.lost is not None},
    )
