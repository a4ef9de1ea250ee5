"""Prompts, read in pieces."""
