"""Checks of a config before data are read: keys, types, arguments and values; deprecated names.

Serves "Bad input" of docs/reliability.md. Costs some tenths of a second at the start of a run, nothing per step.
"""
