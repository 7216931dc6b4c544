"""`litefleet dev`: an application on this machine, without a fleet."""
