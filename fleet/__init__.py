"""The fleet: coordinator, host agents, gateway, command line, and the world they run in."""
