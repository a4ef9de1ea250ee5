"""Answers that keep to a JSON schema, a regex, a grammar or a choice of texts: ``response_format``."""
