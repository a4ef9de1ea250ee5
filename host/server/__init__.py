"""The front's face to guests: listeners, sessions, methods."""
