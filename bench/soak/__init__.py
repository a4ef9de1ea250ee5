"""Thousands of random requests at once, each compared with its run alone."""
