"""Ollama's API: ``/api/*`` as its clients speak it, with lines of JSON and durations in nanoseconds."""
