"""The fleet: coordinator, host agents, gateway, command line, and the world they run in."""

from typing import Final

DEFAULT_NAME: Final = "default"
"""What a fleet is called on its machine where nobody says otherwise."""
