"""The gateway's page: what the host does, and a chat to try its models with; static files, and nothing to build."""
