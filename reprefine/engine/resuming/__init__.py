"""Exact resuming after a kill, a signal or an error, and checkpoints on signals.

Serves "Resuming is exact" and "Signals" of docs/reliability.md. Costs a new seed of the CPU generators for each batch;
adds three hooks to every run and replaces mmengine's train loops and torch's data loader by subclasses.
"""
