"""``python -m tests.simulation.look SEED [RULE] [deleting] [restoring]``: one seed's account, RULE
left out if named, with deletions and restores in place if that is said."""

from __future__ import annotations

import sys

from tests.simulation.fleet_run import run
from tests.simulation.rules import ALL, without


def main(arguments: list[str]) -> int:
    """Print the account; 1 if an invariant was broken."""
    seed, *rule = arguments
    modes = {"deleting": "deleting" in rule, "restoring": "restoring" in rule}
    rule = [one for one in rule if one not in modes]
    outcome = run(int(seed), without(rule[0]) if rule else ALL, **modes)
    print(outcome.report())
    return int(outcome.violation is not None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
