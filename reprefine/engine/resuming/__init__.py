"""Exact resuming after a kill, a signal or an error, and checkpoints on signals.

Promises: "Resuming is exact" and "Signals" in docs/reliability.md. Costs: three hooks in every run, subclasses of
mmengine's train loops and torch's data loader, and a new seed of the CPU generators for each batch.
"""
