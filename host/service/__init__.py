"""The host as a service of launchd (macOS) or systemd (Linux)."""
