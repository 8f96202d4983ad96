"""Checkpoints: atomic writes with checksums, weights-only reading, and loading that reports what was loaded.

Serves "Checkpoints are written atomically" and "Loading" of docs/reliability.md. Costs one more read of each file for
its SHA-256; replaces mmengine's checkpoint hook, ``Pretrained`` initialiser and local file loader.
"""
