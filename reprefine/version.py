"""Version of reprefine."""

__version__ = '0.1.0'
