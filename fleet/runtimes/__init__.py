"""How a host agent runs a node: as processes of its own machine, or as a container."""
