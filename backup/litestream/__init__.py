"""The Litestream sidecar: its configuration, its control socket and its process."""
