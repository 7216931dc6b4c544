"""The host agent: holds the host's lease and runs the nodes that the coordinator orders."""
