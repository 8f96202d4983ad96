"""Command-line entry points: training, testing, tools and jobs.

Serves "Bad input" of docs/reliability.md: what needs no torch is checked before torch is imported.
"""
