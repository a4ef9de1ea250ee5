"""Attention of one new token a row, where ours is the better kernel."""
