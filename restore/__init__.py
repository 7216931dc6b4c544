"""From the bucket back to a running execution log."""
