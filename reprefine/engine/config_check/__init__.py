"""Strict configs: a misspelt key, type or argument stops before data is touched."""
