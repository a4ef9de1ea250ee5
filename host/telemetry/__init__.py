"""What the front knows of calls and models, and whom it tells: events, metrics, the log."""
