"""Checkpoints: atomic writes with checksums, weights-only reading, and loading that reports what was loaded.

Promises: "Checkpoints are complete or absent" and "Loading" in docs/reliability.md. Costs: each file is read once more
for its SHA-256, and mmengine's checkpoint hook, its ``Pretrained`` initialiser and its file loaders are replaced.
"""
