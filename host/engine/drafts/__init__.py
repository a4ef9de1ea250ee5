"""Tokens that are guessed, and checked several at once."""
