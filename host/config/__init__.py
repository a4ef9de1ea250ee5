"""What the daemon was told: by a TOML file, by environment variables, and by options of its command line."""
